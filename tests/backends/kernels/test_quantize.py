"""quantize.int8_32 against the format's own arithmetic, bit for bit, on every instruction set that is here."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS, find_kernel
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.cpu import InstructionSet
from burnish.ir.evaluate import evaluate
from burnish.ir.op import find_op
from burnish.ir.types import Type
from tests.backends.kernels.guarded import BOTH, ENDS, call_kernel

KERNEL = KERNELS["quantize.int8_32"]
assert isinstance(KERNEL, NativeKernel)
QUANTIZE = find_op("quantize")(format="int8_32")

pytestmark = pytest.mark.skipif(not BOTH, reason="this CPU has no instruction set that kernels are written for")
every_set = pytest.mark.parametrize("isa", BOTH, ids=lambda s: s.name)


def same_bytes(x: np.ndarray, isa: InstructionSet, end: bool = True, seed: int = 0) -> None:
    (mine,) = call_kernel(KERNEL, QUANTIZE, x, isa=isa, at_end=end, seed=seed)
    (expected,) = evaluate(QUANTIZE, np, [x], ["int8_32"])
    assert (mine.format, mine.layout, mine.shape) == (expected.format, expected.layout, expected.shape)
    assert np.array_equal(mine.planes["bytes"], expected.planes["bytes"])


@every_set
@settings(max_examples=40, deadline=None)
@given(
    lead=st.lists(st.integers(0, 5), max_size=3),
    groups=st.integers(1, 40),
    end=st.sampled_from(ENDS),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_gives_the_bytes_of_the_format(
    isa: InstructionSet, lead: list[int], groups: int, end: bool, seed: int
) -> None:
    same_bytes(np.random.default_rng(seed).standard_normal((*lead, 32 * groups), np.float32), isa, end, seed)


@every_set
def test_ties_zeros_and_the_ends_of_f32(isa: InstructionSet) -> None:
    ties = np.arange(32, dtype=np.float32) - 15.5
    ties[0] = 127
    tiny = np.linspace(-1, 1, 32, dtype=np.float32) * np.float32(1e-39)
    zeros, huge = np.zeros(32, np.float32), ties * np.float32(2e36)
    same_bytes(np.stack([ties, -ties, zeros, -zeros, tiny, tiny * np.float32(1e-5), huge]), isa)


@every_set
def test_views_that_are_not_contiguous(isa: InstructionSet) -> None:
    x = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    for view in (x[::2], x[:, :32], x.T, x[5:6].reshape(2, 32)):
        same_bytes(view, isa)


@pytest.mark.parametrize(
    ("format", "dtype", "reason"),
    [("q8_0", "f32", "the format is q8_0, not int8_32"), ("int8_32", "f64", "x is f64[2, 64], not f32")],
)
def test_a_refusal_has_a_reason(format: str, dtype: str, reason: str) -> None:
    choice = find_kernel(find_op("quantize")(format=format), [Type(dtype, (2, 64))])
    assert choice == (None, f"quantize.int8_32: {reason}")
