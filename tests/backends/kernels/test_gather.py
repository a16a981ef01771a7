"""Rows and elements at indices: what `evaluate` gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS, find_kernel
from burnish.backends.native.cpu import instruction_sets
from burnish.ir.op import Op, find_op
from burnish.ir.types import Type
from tests.backends.kernels.guarded import BOTH, LAYOUTS, call_kernel, lying

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="this CPU runs no native code")


def same(data: st.DataObject, kernel: str, op: Op, x: np.ndarray, indices: np.ndarray) -> None:
    expected = op.eval(np, x, indices)
    for isa in BOTH:
        (found,) = call_kernel(KERNELS[kernel], op, x, indices, isa=isa, at_end=data.draw(st.booleans()))
        assert np.array_equal(found, expected)


def draw_x(data: st.DataObject, least: int = 1) -> np.ndarray:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=least, max_size=4))
    x = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-100, 100, shape)
    return lying(x.astype(data.draw(st.sampled_from(["f4", "f2", "i1", "i8"]))), data.draw(st.sampled_from(LAYOUTS)))


def draw_indices(data: st.DataObject, shape: tuple[int, ...]) -> np.ndarray:
    """Some beyond both ends."""
    indices = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-9, 9, shape)
    return lying(indices.astype(data.draw(st.sampled_from(["i4", "i8"]))), data.draw(st.sampled_from(LAYOUTS)))


@given(st.data())
def test_rows(data: st.DataObject) -> None:
    x = draw_x(data)
    op = find_op("gather")(axis=data.draw(st.integers(-x.ndim, x.ndim - 1)))
    same(data, "gather.rows", op, x, draw_indices(data, tuple(data.draw(st.lists(st.integers(0, 4), max_size=3)))))


@given(st.data())
def test_elements(data: st.DataObject) -> None:
    x = draw_x(data)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    most = [6 if i == axis % x.ndim else n for i, n in enumerate(x.shape)]
    shape = tuple(data.draw(st.integers(0, n)) for n in most)
    same(data, "gather_elements.native", find_op("gather_elements")(axis=axis), x, draw_indices(data, shape))


@given(st.data())
def test_vectors(data: st.DataObject) -> None:
    x = draw_x(data)
    lead = data.draw(st.lists(st.integers(0, 4), max_size=2))
    indices = draw_indices(data, (*lead, data.draw(st.integers(1, x.ndim))))
    same(data, "gather_nd.native", find_op("gather_nd")(), x, indices)


@given(st.data())
def test_last_rows(data: st.DataObject) -> None:
    x = draw_x(data, least=2)
    same(data, "last_row.native", find_op("last_row")(), x, draw_indices(data, x.shape[:1]).astype("i4"))


def test_an_only_row_is_the_last() -> None:
    x = np.arange(6, dtype="f4").reshape(2, 1, 3)
    (found,) = call_kernel(KERNELS["last_row.native"], find_op("last_row")(), x, np.array([1, 0], "i4"))
    assert np.array_equal(found, x)


@pytest.mark.parametrize("kernel", ["gather.rows", "gather_elements.native"])
def test_nothing_can_be_had_of_nothing(kernel: str) -> None:
    with pytest.raises(IndexError, match="the axis has no rows"):
        call_kernel(
            KERNELS[kernel], find_op(KERNELS[kernel].op)(axis=0), np.zeros((0, 3), "f4"), np.zeros((1, 3), "i4")
        )


@pytest.mark.parametrize(
    ("x", "indices", "reason"),
    [
        (Type("q8_0", (3, 32)), Type("i32", (2,)), "gather.rows: q8_0[3, 32] is packed"),
        (Type("f32", (3, 32)), Type("u8", (2,)), "gather.rows: indices are u8[2]"),
    ],
)
def test_a_refusal_has_a_reason(x: Type, indices: Type, reason: str) -> None:
    assert find_kernel(find_op("gather")(axis=0), [x, indices]) == (None, reason)
