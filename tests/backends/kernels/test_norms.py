"""Norms against float64: strided rows of a token, odd sizes, each type of weights, on both instruction sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS, find_kernel
from burnish.ir.op import Op, find_op
from burnish.ir.types import NUMPY, Type
from tests.backends.kernels.guarded import BOTH, call_kernel

pytestmark = pytest.mark.skipif(not BOTH, reason="this CPU runs no native code")

sizes = st.sampled_from([1, 2, 5, 15, 16, 17, 33, 48, 64, 100, 257])
lead = st.lists(st.integers(1, 4), max_size=3).map(tuple)
some = settings(max_examples=30)


def run(op: Op, *operands: np.ndarray | None, at_end: bool = True) -> np.ndarray:
    """What the kernel gives, the same bits on every instruction set."""
    results = [call_kernel(KERNELS[f"{op.name}.rows"], op, *operands, isa=s, at_end=at_end)[0] for s in BOTH]
    assert all(r.tobytes() == results[0].tobytes() for r in results)
    return results[0]


def made(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def part(x: np.ndarray) -> np.ndarray:
    """The same numbers as a part of longer rows, as q is of what is joined with k and v."""
    axis = -min(2, x.ndim)
    return np.split(np.concatenate([x, x, x], axis), 3, axis)[1]


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@some
@given(
    lead=lead, n=sizes, seed=st.integers(0, 2**32), offset=st.sampled_from([0.0, 1.0]), cut=st.booleans(),
    at_end=st.booleans(),
)  # fmt: skip
def test_rms_norm(dtype: str, lead: tuple[int, ...], n: int, seed: int, offset: float, cut: bool, at_end: bool) -> None:
    x, w = made(seed, *lead, n), made(seed + 1, n).astype(NUMPY[dtype])
    got = run(find_op("rms_norm")(eps=1e-5, offset=offset), part(x) if cut else x, w, at_end=at_end)
    exact = wide(x) / np.sqrt((wide(x) ** 2).mean(-1, keepdims=True) + 1e-5) * (wide(w) + offset)
    # the mean of squares: a unit for each of n / 16 additions and a few more, halved by the root
    assert np.all(np.abs(got - exact) <= (n / 32 + 6) * 2.0**-24 * np.abs(exact) + (2.0**-22) * np.abs(offset))


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@some
@given(
    lead=lead, n=sizes, seed=st.integers(0, 2**32), bias=st.booleans(), mean=st.sampled_from([0.0, 3.0, 100.0]),
    cut=st.booleans(), at_end=st.booleans(),
)  # fmt: skip
def test_layer_norm(
    dtype: str, lead: tuple[int, ...], n: int, seed: int, bias: bool, mean: float, cut: bool, at_end: bool
) -> None:
    x = made(seed, *lead, n) + np.float32(mean)
    w, b = (made(seed + i, n).astype(NUMPY[dtype]) for i in (1, 2))
    got = run(find_op("layer_norm")(eps=1e-5), part(x) if cut else x, w, b if bias else None, at_end=at_end)
    centred = wide(x) - wide(x).mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    exact = centred / deviation * wide(w) + (wide(b) if bias else 0)
    # what is centred is off by units of the mean, which the deviation makes larger
    off = (
        (n / 16 + 4)
        * 2.0**-24
        * (np.abs(wide(x)).max(-1, keepdims=True) + np.abs(centred))
        / deviation
        * np.abs(wide(w))
    )
    assert np.all(np.abs(got - exact) <= 2 * off + 2.0**-23 * np.abs(exact) + 1e-7)


@pytest.mark.parametrize("name", ["rms_norm", "layer_norm"])
def test_numbers_that_are_none_stay_in_their_row(name: str) -> None:
    x = made(0, 4, 50)
    x[1, 49], x[2, 3] = np.nan, np.inf
    got, alone = (run(find_op(name)(eps=1e-5), y, np.ones(50, "f4")) for y in (x, x[3:]))
    assert np.isnan(got[1]).all() and np.isnan(got[2, 3]) and np.isfinite(got[[0, 3]]).all()
    assert got[3].tobytes() == alone[0].tobytes()  # nor do other rows change a bit


@pytest.mark.parametrize(
    ("name", "types", "reason"),
    [
        ("rms_norm", [Type("bf16", (4, 8)), Type("f32", (8,))], "rms_norm.rows: x is bf16[4, 8], not f32"),
        ("rms_norm", [Type("f32", (4, 8)), Type("f64", (8,))], "rms_norm.rows: w is f64[8], not one of f32, f16, bf16"),
        ("layer_norm", [Type("f32", (4, 8)), *(Type(t, (8,)) for t in ("f32", "f16"))],
         "layer_norm.rows: w is f32[8] and b is f16[8]"),
    ],
)  # fmt: skip
def test_a_refusal_has_a_reason(name: str, types: list[Type], reason: str) -> None:
    assert find_kernel(find_op(name)(eps=1e-5), types) == (None, reason)
