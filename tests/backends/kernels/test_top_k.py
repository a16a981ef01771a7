"""top_k.rows: what NumPy's `evaluate` gives, exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS
from burnish.backends.kernels.cpu import InstructionSet
from burnish.ir.op import find_op
from burnish.ir.types import Type
from tests.backends.kernels.guarded import BOTH, ENDS, call_kernel

KERNEL = KERNELS["top_k.rows"]
NUMBERS = [0.0, -0.0, 1.0, -1.0, 2.5, 1e-40, np.inf, -np.inf, np.nan]


@pytest.mark.skipif(not BOTH, reason="this CPU runs no native code")
@pytest.mark.parametrize("isa", BOTH, ids=lambda isa: isa.name)
@given(st.data(), st.sampled_from(ENDS))
@settings(max_examples=60, deadline=None)
def test_the_largest_and_their_places(isa: InstructionSet, data: st.DataObject, at_end: bool) -> None:
    """Those that are equal by their place, and NaN before all."""
    lead, n = data.draw(st.sampled_from([(), (1,), (2, 3), (0,)])), data.draw(st.integers(1, 12))
    size = int(np.prod(lead)) * n
    x = np.array(data.draw(st.lists(st.sampled_from(NUMBERS), min_size=size, max_size=size)), np.float32)
    op = find_op("top_k")(k=data.draw(st.integers(1, n)))
    values, places = call_kernel(KERNEL, op, x.reshape(*lead, n), isa=isa, at_end=at_end)
    expected, there = op.eval(np, x.reshape(*lead, n))
    assert values.tobytes() == expected.tobytes()
    assert places.dtype == np.int32
    assert np.array_equal(places, there)


def test_it_takes_f32() -> None:
    assert KERNEL.why_not(find_op("top_k")(k=1), Type("i32", (3,))) == "x is i32[3], not f32"
