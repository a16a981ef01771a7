"""expert_linear.floats: for each choice, the bits of a linear with the expert's weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS, float_linear
from burnish.backends.kernels.cpu import InstructionSet
from burnish.ir.format import FORMATS, Packed
from burnish.ir.op import Array, find_op
from burnish.ir.types import NUMPY, Type
from tests.backends.kernels.guarded import BOTH, ENDS, call_kernel

KERNEL, EXPERTS = KERNELS["expert_linear.floats"], find_op("expert_linear")()
LINEAR = KERNELS["linear.floats"], find_op("linear")()
needs_code = pytest.mark.skipif(not BOTH, reason="this CPU runs no native code")
every_cpu = pytest.mark.parametrize("isa", BOTH, ids=lambda isa: isa.name)


def weights(kind: str, experts: int, rows: int, inputs: int) -> Array:
    rng = np.random.default_rng((experts, rows, inputs))
    if kind in FORMATS:
        return Packed.made_up(kind, (experts, rows, inputs), rng)
    return rng.standard_normal((experts, rows, inputs), np.float32).astype(NUMPY[kind])


def one(w: Array, e: int) -> Array:
    return w.with_planes({k: p[e] for k, p in w.planes.items()}, w.shape[1:]) if isinstance(w, Packed) else w[e]


@needs_code
@every_cpu
@pytest.mark.parametrize("kind", ["f32", "q4_0"])
@given(st.data(), st.sampled_from(ENDS))
@settings(max_examples=5, deadline=None)
def test_each_choice_has_the_bits_of_a_linear(
    isa: InstructionSet, kind: str, data: st.DataObject, at_end: bool
) -> None:
    """Whichever experts the other tokens choose, and how many tokens choose the same; out of bounds is the nearest."""
    experts, rows, inputs = (
        data.draw(st.integers(1, 9)),
        data.draw(st.integers(1, 70)),
        32 * data.draw(st.integers(1, 3)),
    )
    lead, k = data.draw(st.sampled_from([(), (1,), (3, 7), (0,), (float_linear.MANY,)])), data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    x = rng.standard_normal((*lead, data.draw(st.sampled_from([1, k])), inputs), np.float32)
    chosen = rng.integers(-1, experts + 1, (*lead, k)).astype("i4")
    w, b = weights(kind, experts, rows, inputs), rng.standard_normal((experts, rows), np.float32)
    (y,) = call_kernel(KERNEL, EXPERTS, x, w, chosen, b, isa=isa, at_end=at_end)
    assert y.shape == (*chosen.shape, rows)
    given_rows = np.broadcast_to(x, (*chosen.shape, inputs))
    for e in range(experts):
        mine = chosen.clip(0, experts - 1) == e
        (expected,) = call_kernel(*LINEAR, given_rows[mine], one(w, e), b[e], isa=isa)
        assert np.array_equal(y[mine], expected)


@needs_code
@every_cpu
def test_it_agrees_with_float64(isa: InstructionSet) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((11, 1, 96), np.float32), weights("f32", 5, 20, 96)
    chosen = rng.integers(0, 5, (11, 3)).astype("i4")
    (y,) = call_kernel(KERNEL, EXPERTS, x, w, chosen, None, isa=isa)
    expected = np.einsum("tk,tjnk->tjn", x[:, 0].astype("f8"), w.astype("f8")[chosen])
    terms = np.einsum("tk,tjnk->tjn", np.abs(x[:, 0]).astype("f8"), np.abs(w).astype("f8")[chosen])
    assert np.all(np.abs(y - expected) <= 12 * 2.0**-24 * terms)


@needs_code
def test_an_expert_that_nobody_chose_is_not_read() -> None:
    """Its weights may be anything."""
    w = weights("f32", 4, 20, 32)
    x, chosen = np.ones((5, 1, 32), np.float32), np.array([[1, 3]] * 5, "i4")
    (expected,) = call_kernel(KERNEL, EXPERTS, x, w, chosen, None)
    expected = expected.copy()
    w[[0, 2]] = np.nan
    (y,) = call_kernel(KERNEL, EXPERTS, x, w, chosen, None)
    assert np.array_equal(y, expected)


@pytest.mark.parametrize(
    ("types", "reason"),
    [
        (("bf16", "f32", "i32", "f32"), "x is bf16[5, 1, 32], not f32"),
        (("f32", "f64", "i32", "f32"), "w is f64[4, 20, 32], not f32"),
        (("f32", "f32", "i64", "f32"), "chosen is i64[5, 2], not i32"),
        (("f32", "f32", "i32", "f64"), "b is f64[4, 20], wider than f32"),
    ],
)
def test_what_it_does_not_take_has_a_reason(types: tuple[str, ...], reason: str) -> None:
    shapes = ((5, 1, 32), (4, 20, 32), (5, 2), (4, 20))
    assert reason in str(KERNEL.why_not(EXPERTS, *(Type(t, s) for t, s in zip(types, shapes, strict=True))))
