"""Positions, and biases by distance: what `evaluate` gives, bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.backends.interpreter import Interpreter
from burnish.backends.kernels import KERNELS, find_kernel
from burnish.backends.native.cpu import instruction_sets
from burnish.ir.op import Op, find_op
from burnish.ir.parser import parse
from burnish.ir.types import Type
from tests.backends.kernels.guarded import BOTH, LAYOUTS, call_kernel, lying

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="this CPU runs no native code")


def same(data: st.DataObject, kernel: str, op: Op, *operands: np.ndarray) -> None:
    expected = op.eval(np, *operands)
    for isa in BOTH:
        (found,) = call_kernel(KERNELS[kernel], op, *operands, isa=isa, at_end=data.draw(st.booleans()))
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)


def draw_past(data: st.DataObject, batch: int) -> list[np.ndarray]:
    past = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 30, batch).astype("i4")
    return data.draw(st.sampled_from([[], *([lying(past, layout)] for layout in LAYOUTS)]))


@given(st.data())
def test_positions(data: st.DataObject) -> None:
    batch, tokens = data.draw(st.tuples(st.integers(0, 4), st.integers(0, 7)))
    same(data, "positions.native", find_op("positions")(), np.zeros((batch, tokens), "i4"), *draw_past(data, batch))


@given(st.data())
def test_biases(data: st.DataObject) -> None:
    batch, heads, query, key = data.draw(st.tuples(st.integers(0, 3), st.integers(1, 4), *[st.integers(0, 9)] * 2))
    past, random = draw_past(data, batch), np.random.default_rng(0)
    slopes = lying(random.standard_normal(heads).astype("f4"), data.draw(st.sampled_from(LAYOUTS)))
    same(data, "alibi.rows", find_op("alibi")(query=query, key=key), slopes, *past)
    both = data.draw(st.booleans())
    buckets = 2 * data.draw(st.integers(2, 8))
    most = data.draw(st.integers(buckets // 2 + 1, 40))
    op = find_op("relative_bias")(query=query, key=8 * key, bidirectional=both, max_distance=most)
    table = random.standard_normal((buckets, heads)).astype("f4")
    same(data, "relative_bias.heads", op, lying(table, data.draw(st.sampled_from(LAYOUTS))), *past)


def test_what_is_not_f32_is_refused() -> None:
    choice = find_kernel(find_op("alibi")(query=1, key=1), [Type("f16", (4,))])
    assert choice == (None, "alibi.rows: slopes are f16[4], not f32")
    choice = find_kernel(find_op("relative_bias")(query=1, key=1, bidirectional=False), [Type("f16", (8, 4))])
    assert choice == (None, "relative_bias.heads: the table is f16[8, 4], not f32")


def test_numbers_in_order_are_made_with_the_plan() -> None:
    text = (
        'module {\n  graph f(%x: f32[S]) {\n    %0: i64[S] = iota(size=S, dtype="i64") <- "a"\n    return y=%0\n  }\n}'
    )
    runner = Interpreter(parse(text))
    assert "1 x iota: made with the plan" in runner.plan_text("f")
    for size in (3, 0):
        found = runner("f", {"x": np.zeros(size, "f4")})["y"]
        assert found.dtype == np.int64
        assert found.tolist() == list(range(size))
