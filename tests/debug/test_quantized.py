"""Each quantized tensor is held to the rounding of its own format."""

import numpy as np
import pytest

import burnish
from burnish.debug.quantized import Held, held_weights
from burnish.ir.format import FORMATS, Packed
from burnish.ir.weights import MemoryWeights
from tests.decoder import decoder

MADE = sorted(name for name, f in FORMATS.items() if f.is_made and 32 % (f.group or 32) == 0)


@pytest.mark.parametrize("format", MADE)
def test_every_format_keeps_within_its_own_bound(format: str) -> None:
    module = decoder()
    held, _ = held_weights(module, burnish.optimize(module, f"quantize-weights{{recipe={format}}}"))
    assert len(held) == 9
    assert all(0.1 < t.off <= 1 and t.fault is None for t in held)
    assert held[0].name == "weight layers.0.attn.q.weight"


@pytest.mark.parametrize(
    ("damage", "off"),
    [
        (lambda x: x * np.float32(1.5), 4),
        (lambda x: np.roll(x, 1, axis=1), 4),
        (lambda x: x + np.float32(0.5) * np.abs(x).max(), 3),
    ],
)
def test_a_damaged_weight_is_named(damage, off: float) -> None:  # type: ignore[no-untyped-def]
    module = decoder()
    after = burnish.optimize(module, "quantize-weights{recipe=q4_0}")
    arrays = {name: module.source.read(name) for name in module.weights}
    after.source = MemoryWeights(arrays | {"layers.1.attn.v.weight": damage(arrays["layers.1.attn.v.weight"])})
    held, _ = held_weights(module, after)
    (fault,) = [t for t in held if t.fault is not None]
    assert fault.name == "weight layers.1.attn.v.weight" and fault.off >= off


def test_weights_packed_before_are_not_new() -> None:
    module = burnish.optimize(decoder(), "quantize-weights{recipe=q4_0}")
    held, _ = held_weights(module, burnish.optimize(module, "set-layouts{layout=planes}"))
    assert held == []


def test_another_shape_is_a_fault() -> None:
    assert "is not of its shape" in str(Held("weight w", "q4_0", float("inf")).fault)


@pytest.mark.parametrize("format", MADE)
def test_the_bound_is_that_of_the_law(format: str) -> None:
    x = np.random.default_rng(0).standard_normal((4, 1, 32)).astype("f4")
    back = Packed.quantize(np, x[:, 0], format).dequantize(np).reshape(x.shape)
    assert (np.abs(back - x) <= FORMATS[format].largest_error(x)).all()
