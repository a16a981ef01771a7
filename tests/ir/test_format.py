"""Quantized formats and layouts. The bytes of q4_0 and q8_0 are ggml's: gguf-py is the oracle, bit for bit."""

from typing import Any

import gguf
import numpy as np
import pytest

from burnish.ir import FORMATS, Layout, Packed, QuantFormat
from burnish.ir.format import Field, Fields, FormatError
from burnish.testing import check_format

GGML = {"q4_0": gguf.GGMLQuantizationType.Q4_0, "q8_0": gguf.GGMLQuantizationType.Q8_0}
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_obeys_the_laws(name: str) -> None:
    check_format(FORMATS[name])


def samples() -> dict[str, np.ndarray]:
    normal = RNG.standard_normal((64, 256)).astype("f4")
    zeros = normal.copy()
    zeros[::3] = 0
    zeros[1::3, :40] = -0.0
    halves = np.full((1, 32), 0.49999997, "f4")  # just below a half: adding 0.5 would round it up
    halves[0, :3] = 127, -0.49999997, 2.5
    return {
        "normal": normal,
        "halves": halves,
        "zeros": zeros,
        "small weights": normal * np.float32(0.02),
        "many magnitudes": normal * (10.0 ** RNG.integers(-6, 4, (64, 256))).astype("f4"),
        "scales that f16 rounds to subnormals": normal * np.float32(1e-5),
        "scales that f16 rounds to zero": normal * np.float32(1e-12),
        "scales that are subnormal in f32": normal * np.float32(1e-37),
        "scales beyond f16": normal * np.float32(1e8),
        "huge": normal * np.float32(1e37),
        "ties": RNG.integers(-254, 255, (64, 256)).astype("f4") / 2,
        "no row": normal[:0],
    }


SAMPLES = samples()


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")
@pytest.mark.parametrize("name", GGML)
@pytest.mark.parametrize("what", SAMPLES)
def test_bytes_are_those_of_ggml(name: str, what: str) -> None:
    x = SAMPLES[what]
    if not len(x):
        assert Packed.quantize(np, x, name).planes["bytes"].shape == (0, FORMATS[name].row_bytes(256))
        return
    ours = Packed.quantize(np, x, name)
    theirs = gguf.quants.quantize(x, GGML[name])
    assert np.array_equal(ours.planes["bytes"], theirs)
    back = gguf.quants.dequantize(theirs, GGML[name])
    assert ours.dequantize(np).tobytes() == back.tobytes()


@pytest.mark.parametrize("name", GGML)
def test_numbers_without_a_reciprocal_are_zeros(name: str) -> None:
    """1 / scale is infinite: ggml casts infinities to integers, which is another byte on another machine."""
    x = RNG.standard_normal((4, 64)).astype("f4") * np.float32(1e-40)
    packed = Packed.quantize(np, x, name)
    assert np.array_equal(packed.unpack(np)["q"], Packed.quantize(np, 0 * x, name).unpack(np)["q"])
    assert not packed.dequantize(np).any()


@pytest.mark.parametrize("name", FORMATS)
def test_joining_rows_and_quantizing_commute(name: str) -> None:
    a, b = SAMPLES["normal"][:5], SAMPLES["zeros"][:9]
    together = Packed.quantize(np, np.concatenate([a, b]), name).planes["bytes"]
    apart = [Packed.quantize(np, x, name).planes["bytes"] for x in (a, b)]
    assert np.array_equal(together, np.concatenate(apart))


def test_int8_rounds_to_the_nearest_of_255_steps() -> None:
    x = np.float32([[127, -127, 0.5, 1.5, 2.4, -3.6]])
    fields = Packed.quantize(np, x, "int8").unpack(np)
    assert fields["d"].tolist() == [[[1.0]]]
    assert fields["q"].tolist() == [[[127, -127, 0, 2, 2, -4]]]


def test_int8_32_has_a_scale_for_each_group() -> None:
    x = np.repeat(np.float32([[127, 0, -254]]), 32, axis=1)
    fields = Packed.quantize(np, x, "int8_32").unpack(np)
    assert fields["d"].ravel().tolist() == [1.0, 0.0, 2.0]
    assert fields["q"][0, :, 0].tolist() == [127, 0, -127]


@pytest.mark.parametrize("name", ["int8", "int8_32"])
def test_codes_stay_in_range_for_subnormal_scales(name: str) -> None:
    x = np.full((1, 32), 200e-45, "f4")
    assert Packed.quantize(np, x, name).unpack(np)["q"].min() >= 0


def test_sizes() -> None:
    bits = {name: FORMATS[name].bits for name in ("q4_0", "q8_0", "int8_32", "int8")}
    assert bits == {"q4_0": 4.5, "q8_0": 8.5, "int8_32": 9.0, "int8": 8.0}
    assert FORMATS["q4_0"].row_bytes(64) == 36
    assert Packed.quantize(np, np.zeros((3, 64), "f4"), "q4_0").nbytes == 3 * 36


def test_an_axis_that_the_group_does_not_divide_is_refused() -> None:
    for name in ("q4_0", "q8_0", "int8_32"):
        with pytest.raises(FormatError, match="groups of 32 do not divide an input axis of 33"):
            Packed.quantize(np, np.zeros((2, 33), "f4"), name)
    assert Packed.quantize(np, np.zeros((2, 33), "f4"), "int8").shape == (2, 33)


# --------------------------------------------------------------------------------------------------- the law can fail


def quantize(self: QuantFormat, x: np.ndarray) -> Fields:
    d = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
    return {"d": d, "q": np.rint(x / np.where(d == 0, np.float32(1), d)).astype("i1")}


def dequantize(self: QuantFormat, xp: Any, fields: Fields) -> Any:
    return fields["d"] * fields["q"].astype("float32")


SOUND = {
    "__doc__": "Eight bits and one f32 scale for 16 inputs.",
    "group": 16,
    "fields": (Field("d", "f4"), Field("q", "i1", bits=8)),
    "quantize": quantize,
    "dequantize": dequantize,
}


def faulty(**changes: Any) -> QuantFormat:
    return FORMATS[type("Faulty", (QuantFormat,), {**SOUND, **changes}).name]


def truncating(self: QuantFormat, x: np.ndarray) -> Fields:
    fields = quantize(self, x)
    return {**fields, "q": (fields["q"] // 4 * 4).astype("i1")}


def dividing_by_zero(self: QuantFormat, x: np.ndarray) -> Fields:
    d = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
    with np.errstate(all="ignore"):
        return {"d": np.where(d == 0, np.float32(np.nan), d), "q": np.nan_to_num(np.rint(x / d)).astype("i1")}


def looking_around(self: QuantFormat, x: np.ndarray) -> Fields:
    d = np.broadcast_to(np.abs(x).max(), (*x.shape[:-1], 1)) / np.float32(127)
    return {"d": d.astype("f4"), "q": np.rint(x / d).astype("i1")}


def scribbling(self: QuantFormat, x: np.ndarray) -> Fields:
    fields = quantize(self, x)
    x *= 2
    return fields


def other_in_jax(self: QuantFormat, xp: Any, fields: Fields) -> Any:
    return dequantize(self, xp, fields) * (1 if xp is np else 2)


def test_a_sound_format_passes(registries: None) -> None:
    check_format(faulty())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantize": truncating}, "rounding is off by"),
        ({"quantize": dividing_by_zero}, "rounding is off|not zero"),
        ({"quantize": looking_around}, "rounding is off|quantized apart"),
        ({"quantize": scribbling}, "quantize changed its operand"),
        ({"dequantize": other_in_jax}, "JAX dequantizes layout '' to other numbers"),
        ({"dequantize": lambda self, xp, fields: fields["q"] * 1.0}, "dequantizes to f64"),
        ({"check": lambda self, inputs: None}, "accepts an axis of 17"),
        ({"__doc__": None}, "has no docstring"),
    ],
)
def test_a_wrong_format_breaks_a_law(registries: None, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_format(faulty(**changes))


def test_a_layout_that_loses_bits_breaks_a_law(registries: None) -> None:
    class Lossy(Layout):
        """Keeps seven bits of each code."""

        name = "lossy"

        def pack(self, xp: Any, format: QuantFormat, fields: Fields, shape: tuple[int, ...]) -> Fields:
            return {**fields, "q": fields["q"] & ~1}

        def unpack(self, xp: Any, format: QuantFormat, planes: Any, shape: tuple[int, ...]) -> Fields:
            return dict(planes)

    with pytest.raises(AssertionError, match="layout 'lossy' loses bits of q"):
        check_format(FORMATS["q8_0"])
