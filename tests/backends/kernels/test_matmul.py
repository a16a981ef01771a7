"""matmul.columns against float64, and the law that a number's bits depend on its row and its column alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS
from burnish.backends.native.cpu import InstructionSet
from burnish.ir.op import find_op
from burnish.ir.types import Type
from tests.backends.kernels.guarded import BOTH, ENDS, call_kernel

KERNEL, MATMUL = KERNELS["matmul.columns"], find_op("matmul")()
needs_code = pytest.mark.skipif(not BOTH, reason="this CPU runs no native code")
every_cpu = pytest.mark.parametrize("isa", BOTH, ids=lambda isa: isa.name)
LEADING = [((), ()), ((2,), (2,)), ((2, 1), (3,)), ((1, 3), (2, 1)), ((), (2,)), ((0,), (0,))]


def run(a: np.ndarray, b: np.ndarray, isa: InstructionSet | None = None, **how: object) -> np.ndarray:
    (y,) = call_kernel(KERNEL, MATMUL, a, b, isa=isa, **how)
    return y.copy()


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape, np.float32)


@needs_code
@every_cpu
@given(st.sampled_from(LEADING), st.integers(1, 60), st.integers(1, 90), st.integers(1, 300), st.data())
@settings(max_examples=40, deadline=None)
def test_it_agrees_with_float64(
    isa: InstructionSet, lead: tuple[tuple[int, ...], tuple[int, ...]], m: int, k: int, n: int, data: st.DataObject
) -> None:
    """Within a rounding for each of K sums, of the magnitudes of its terms; whether or not operands are transposed."""
    left, right = data.draw(st.booleans()), data.draw(st.booleans())
    a = floats(*lead[0], k, m).swapaxes(-1, -2) if left else floats(*lead[0], m, k)
    b = floats(*lead[1], n, k).swapaxes(-1, -2) if right else floats(*lead[1], k, n)
    y = run(a, b, isa, at_end=data.draw(st.sampled_from(ENDS)), seed=m)
    wide, terms = a.astype("f8") @ b.astype("f8"), np.abs(a).astype("f8") @ np.abs(b).astype("f8")
    assert y.shape == wide.shape
    assert np.all(np.abs(y - wide) <= k * 2.0**-24 * terms)


@needs_code
@pytest.mark.parametrize("n", [7, 16, 100, 259])
def test_bits_depend_on_the_row_and_the_column_alone(n: int) -> None:
    a, b = floats(53, 70), floats(70, n)
    expected = run(a, b)
    for isa in BOTH:
        for rows in (1, 5, 6, 50):
            assert np.array_equal(run(a[-rows:], b, isa), expected[-rows:])
        assert np.array_equal(run(a, b[:, 3:], isa), expected[:, 3:])
        assert np.array_equal(run(a, b[:, :1], isa), expected[:, :1])
        assert np.array_equal(run(np.asfortranarray(a), np.asfortranarray(b), isa), expected)
        assert np.array_equal(run(a[None], np.stack([b, b]), isa), np.stack([expected, expected]))


def test_it_takes_f32() -> None:
    a, b = Type("f64", (2, 3)), Type("f64", (3, 4))
    assert KERNEL.why_not(MATMUL, a, b) == "a is f64[2, 3] and b f64[3, 4], not f32"
