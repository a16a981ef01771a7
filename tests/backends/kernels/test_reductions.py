"""Sums, means, largest elements and softmax against float64, on both instruction sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS, find_kernel
from burnish.ir.op import Op, find_op
from burnish.ir.types import Type
from tests.backends.kernels.guarded import BOTH, call_kernel

pytestmark = pytest.mark.skipif(not BOTH, reason="this CPU runs no native code")

shapes = st.lists(st.sampled_from([1, 2, 3, 5, 16, 17, 40]), min_size=1, max_size=4).map(tuple)
some = settings(max_examples=40)


def run(op: Op, x: np.ndarray, at_end: bool = True) -> np.ndarray:
    """What the kernel gives, the same on every instruction set."""
    results = [call_kernel(KERNELS[f"{op.name}.rows"], op, x, isa=s, at_end=at_end)[0] for s in BOTH]
    assert all(np.array_equal(r, results[0], equal_nan=True) for r in results)
    return results[0]


def made(seed: int, shape: tuple[int, ...], transposed: bool) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return np.ascontiguousarray(x.T).T if transposed else x


@pytest.mark.parametrize("name", ["reduce_sum", "reduce_mean", "reduce_max"])
@some
@given(shape=shapes, data=st.data(), seed=st.integers(0, 2**32))
def test_a_reduction(name: str, shape: tuple[int, ...], data: st.DataObject, seed: int) -> None:
    first = data.draw(st.integers(0, len(shape) - 1))
    axes = tuple(range(first, data.draw(st.integers(first + 1, len(shape)))))
    x, keepdims = made(seed, shape, data.draw(st.booleans())), data.draw(st.booleans())
    given_axes = tuple(a - len(shape) for a in axes) if data.draw(st.booleans()) else axes
    got = run(find_op(name)(axes=given_axes, keepdims=keepdims), x, at_end=data.draw(st.booleans()))
    wide, n = x.astype(np.float64), np.prod([shape[a] for a in axes])
    if name == "reduce_max":
        assert np.array_equal(got, wide.max(axes, keepdims=keepdims))
        return
    exact = wide.sum(axes, keepdims=keepdims)
    size = np.abs(wide).sum(axes, keepdims=keepdims)  # an error of half a unit of what is added up, each time
    by = n if name == "reduce_mean" else 1
    assert got.shape == exact.shape
    assert np.all(np.abs(got - exact / by) <= 2.0**-24 * (n + 4) * size / by)


@some
@given(shape=shapes, data=st.data(), seed=st.integers(0, 2**32))
def test_the_largest_integer(shape: tuple[int, ...], data: st.DataObject, seed: int) -> None:
    axis, rng = data.draw(st.integers(0, len(shape) - 1)), np.random.default_rng(seed)
    x = rng.integers(-(2**31), 2**31, shape).astype("i4")  # read as f32, some are no numbers, some are infinite
    x = np.where(rng.random(shape) < 0.3, np.int32(-(2**31)), x)
    got = run(find_op("reduce_max")(axes=(axis,), keepdims=False), x, at_end=data.draw(st.booleans()))
    assert got.dtype == np.int32 and np.array_equal(got, x.max(axis))


@pytest.mark.parametrize("name", ["reduce_sum", "reduce_mean", "reduce_max", "softmax"])
@pytest.mark.parametrize("at", [0, 18, 39])
def test_a_number_that_is_none_is_passed_on(name: str, at: int) -> None:
    x = made(0, (3, 40), False)
    x[1, at] = np.nan
    op = find_op("softmax")() if name == "softmax" else find_op(name)(axes=(1,))
    got = run(op, x)
    assert np.isnan(got[1]).all() and np.isfinite(got[[0, 2]]).all()


@pytest.mark.parametrize("at", [(0, 1), (2, 0)])
def test_nor_is_it_lost_among_columns(at: tuple[int, int]) -> None:
    x = made(0, (3, 40), False)
    x[at] = np.nan
    assert np.array_equal(np.isnan(run(find_op("reduce_max")(axes=(0,)), x)[0]), np.arange(40) == at[1])


@some
@given(
    shape=shapes,
    seed=st.integers(0, 2**32),
    scale=st.sampled_from([1.0, 30.0]),
    transposed=st.booleans(),
    at_end=st.booleans(),
)
def test_softmax(shape: tuple[int, ...], seed: int, scale: float, transposed: bool, at_end: bool) -> None:
    x = made(seed, shape, transposed) * np.float32(scale)
    got = run(find_op("softmax")(), x, at_end)
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    exact = e / e.sum(-1, keepdims=True)
    # units: of exp, whose operand is rounded once, of the sum, of the quotient
    units = 5 + shape[-1] / 16 + np.abs(x - x.max(-1, keepdims=True))
    assert np.all(np.abs(got - exact) <= 2.0**-24 * units * exact + 1e-37)


def test_softmax_of_what_is_masked() -> None:
    x = made(0, (3, 20), False)
    x[0, 5:], x[1] = -np.inf, -np.inf
    got = run(find_op("softmax")(), x)
    assert (got[0, 5:] == 0).all() and got[0].sum() == pytest.approx(1) and np.isnan(got[1]).all()


@some
@given(rows=st.integers(2, 5), n=st.integers(1, 70), seed=st.integers(0, 2**32))
def test_a_row_alone_has_the_bits_that_it_has_among_others(rows: int, n: int, seed: int) -> None:
    x = made(seed, (rows, n), False)
    for op in (find_op("softmax")(), find_op("reduce_sum")(axes=(1,))):
        assert run(op, x)[-1].tobytes() == run(op, x[-1:])[0].tobytes()
    pairs = made(seed, (rows, 2, n), False)
    op = find_op("reduce_sum")(axes=(1,))
    assert run(op, pairs)[-1].tobytes() == run(op, pairs[-1:])[0].tobytes()


@pytest.mark.parametrize(
    ("op", "type", "reason"),
    [
        (find_op("softmax")(axis=0), Type("f32", (2, 3)), "softmax.rows: axis 0 is not the last of f32[2, 3]"),
        (find_op("softmax")(), Type("f16", (2, 3)), "softmax.rows: x is f16[2, 3], not f32"),
        (find_op("reduce_sum")(axes=(0, 2)), Type("f32", (2, 3, 4)), "reduce_sum.rows: axes (0, 2) are apart"),
        (find_op("reduce_sum")(axes=(0,)), Type("i32", (2,)), "reduce_sum.rows: x is i32[2], not f32"),
        (find_op("reduce_max")(axes=(0,)), Type("f64", (2,)), "reduce_max.rows: x is f64[2], not f32 or i32"),
    ],
)
def test_a_refusal_has_a_reason(op: Op, type: Type, reason: str) -> None:
    assert find_kernel(op, [type]) == (None, reason)
