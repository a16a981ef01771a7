"""Operators that move numbers: views where the result lies in an operand, copies where it does not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS, find_kernel
from burnish.backends.kernels.copy import copy
from burnish.backends.native.cpu import instruction_set, instruction_sets
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import tensor_of
from burnish.ir.op import find_op
from burnish.ir.types import Type
from tests.backends.kernels.guarded import BOTH, LAYOUTS, call_kernel, lying

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="this CPU runs no native code")


def draw_x(data: st.DataObject, rank: int, least: int = 0) -> np.ndarray:
    shape = data.draw(st.lists(st.integers(least, 5), min_size=rank, max_size=rank))
    x = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-100, 100, shape)
    return lying(x.astype(data.draw(st.sampled_from(["f4", "f2", "i1", "i8"]))), data.draw(st.sampled_from(LAYOUTS)))


def same(data: st.DataObject, kernel: str, *operands: np.ndarray, **attributes: object) -> None:
    op = find_op(KERNELS[kernel].op)(**attributes)
    expected = op.eval(np, *operands)
    for isa in BOTH:
        found = call_kernel(KERNELS[kernel], op, *operands, isa=isa, at_end=data.draw(st.booleans()))
        for x, y in zip(found, expected if isinstance(expected, (tuple, list)) else [expected], strict=True):
            assert np.array_equal(x, y)


@given(st.data())
def test_joins(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 4))
    x = draw_x(data, rank)
    axis = data.draw(st.integers(-rank, rank - 1))
    sizes = data.draw(st.lists(st.integers(0, 5), max_size=3))
    shapes = [tuple(n if i == axis % rank else d for i, d in enumerate(x.shape)) for n in sizes]
    others = [lying(np.full(s, 7, x.dtype), data.draw(st.sampled_from(LAYOUTS))) for s in shapes]
    same(data, "concat.copies", x, *others, axis=axis)
    same(data, "stack.copies", x, *[x] * data.draw(st.integers(0, 3)))


@given(st.data())
def test_reshapes(data: st.DataObject) -> None:
    """Where no view has that shape, of a copy."""
    x = draw_x(data, data.draw(st.integers(0, 4)), least=1)
    at = data.draw(st.integers(0, x.ndim))
    flat = (int(np.prod(x.shape[:at])), *x.shape[at:])
    same(data, "reshape.view", x, shape=flat)
    same(data, "transpose.view", x, perm=tuple(data.draw(st.permutations(range(x.ndim)))))


@given(st.data())
def test_parts_and_repetitions(data: st.DataObject) -> None:
    x = draw_x(data, data.draw(st.integers(1, 4)), least=2)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    cut = data.draw(st.integers(0, x.shape[axis]))
    same(data, "split.view", x, axis=axis, sizes=(cut, x.shape[axis] - cut))
    same(data, "slice.view", x, axis=axis, start=1, stop=max(1, cut))
    same(data, "index.view", x, index=1)
    same(data, "unsqueeze.view", x, axes=(0, 2))
    same(data, "broadcast_to.view", x, shape=(3, *x.shape))
    same(data, "squeeze.view", x[:1], axes=(0,))


@pytest.mark.parametrize(
    ("shape", "perm", "lines"),
    [((2, 3, 4, 16), (0, 2, 1, 3), 2 * 4 * 3), ((2, 3, 4, 16), (0, 1, 2, 3), 1), ((2, 3, 2048), (0, 1, 2), 6)],
    ids=["apart", "small", "large"],
)
def test_a_line_is_as_long_as_it_can_be_until_it_is_worth_a_call(
    shape: tuple[int, ...], perm: tuple[int, ...], lines: int
) -> None:
    isa = instruction_set()
    assert isa is not None
    emitter, x = Emitter(isa, 1), np.zeros(shape, "f4").transpose(perm)
    copy(emitter, tensor_of(x, "given"), tensor_of(np.zeros(x.shape, "f4"), "given"))  # type: ignore[arg-type]  # plain
    assert [c.items for c in emitter.calls] == [lines]


@pytest.mark.parametrize("op", [find_op("concat")(axis=0), find_op("index")(index=0)], ids=lambda op: op.name)
def test_what_is_packed_is_refused(op: object) -> None:
    choice = find_kernel(op, [Type("q8_0", (2, 32))])  # type: ignore[arg-type]  # an op
    assert choice.kernel is None
    assert choice.why_not.endswith("q8_0[2, 32] is packed")
