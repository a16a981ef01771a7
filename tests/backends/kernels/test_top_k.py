"""top_k: what `evaluate` gives, ties and no numbers included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS, find_kernel
from burnish.backends.native.cpu import instruction_sets
from burnish.ir.op import find_op
from burnish.ir.types import Type
from tests.backends.kernels.guarded import BOTH, LAYOUTS, call_kernel, lying

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="this CPU runs no native code")
NUMBERS = np.array([0, -0.0, 1, 2, -3, np.inf, -np.inf, np.nan], "f4")


@given(st.data())
def test_the_largest(data: st.DataObject) -> None:
    lead = tuple(data.draw(st.lists(st.integers(0, 4), max_size=2)))
    n, random = data.draw(st.integers(1, 40)), np.random.default_rng(data.draw(st.integers(0, 99)))
    x = random.choice(NUMBERS, (*lead, n)) if data.draw(st.booleans()) else random.standard_normal((*lead, n), "f4")
    x, op = lying(x, data.draw(st.sampled_from(LAYOUTS))), find_op("top_k")(k=data.draw(st.integers(1, n)))
    expected = op.eval(np, x)
    for isa in BOTH:
        found = call_kernel(KERNELS["top_k.rows"], op, x, isa=isa, at_end=data.draw(st.booleans()))
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("k", "dtype", "reason"),
    [(2, "i32", "top_k.rows: x is i32[4, 100], not f32"), (65, "f32", "top_k.rows: 65 of f32[4, 100] are many")],
)
def test_a_refusal_has_a_reason(k: int, dtype: str, reason: str) -> None:
    assert find_kernel(find_op("top_k")(k=k), [Type(dtype, (4, 100))]) == (None, reason)
