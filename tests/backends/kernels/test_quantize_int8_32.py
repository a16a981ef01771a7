"""quantize.int8_32 against the format's own arithmetic, bit for bit."""

import numpy as np
import pytest

from burnish.backends.kernels import KERNELS, find_kernel
from burnish.ir.evaluate import evaluate
from burnish.ir.op import find_op
from burnish.ir.types import NUMPY, Type

KERNEL = KERNELS["quantize.int8_32"]
QUANTIZE = find_op("quantize")(format="int8_32")


def same_bytes(x: np.ndarray) -> None:
    (mine,), (expected,) = KERNEL(QUANTIZE, ["int8_32"], x), evaluate(QUANTIZE, np, [x], ["int8_32"])
    assert (mine.format, mine.layout, mine.shape) == (expected.format, expected.layout, expected.shape)
    assert np.array_equal(mine.planes["bytes"], expected.planes["bytes"])


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("shape", [(32,), (1, 896), (2, 3, 96), (129, 64)], ids=str)
def test_it_gives_the_bytes_of_the_format(dtype: str, shape: tuple[int, ...]) -> None:
    same_bytes(np.random.default_rng(0).standard_normal(shape).astype(NUMPY[dtype]))


def test_ties_zeros_and_the_ends_of_f32() -> None:
    ties = np.arange(32, dtype=np.float32) - 15.5
    ties[0] = 127
    tiny = np.linspace(-1, 1, 32, dtype=np.float32) * np.float32(1e-39)
    zeros, huge = np.zeros(32, np.float32), ties * np.float32(2e36)
    same_bytes(np.stack([ties, -ties, zeros, -zeros, tiny, tiny * np.float32(1e-5), huge]))


def test_a_view_that_is_not_contiguous() -> None:
    same_bytes(np.random.default_rng(0).standard_normal((64, 6), np.float32).T)


@pytest.mark.parametrize(
    ("format", "dtype", "reason"),
    [("q8_0", "f32", "the format is q8_0, not int8_32"), ("int8_32", "f64", "x is f64[2, 64], wider than f32")],
)
def test_a_refusal_has_a_reason(format: str, dtype: str, reason: str) -> None:
    choice = find_kernel(find_op("quantize")(format=format), [Type(dtype, (2, 64))])
    assert choice == (None, f"quantize.int8_32: {reason}")
