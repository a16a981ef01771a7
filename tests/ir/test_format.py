"""Quantized formats and layouts. Where bytes are ggml's, gguf-py is the oracle, bit for bit."""

import warnings
from typing import Any

import gguf
import numpy as np
import pytest

from burnish.ir import FORMATS, Layout, Packed, QuantFormat, Type
from burnish.ir.format import FormatError, Parts
from burnish.ir.op import find_op
from burnish.ir.parts import Part, Raw
from burnish.ir.types import InferError
from burnish.testing import check_format

MADE = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0")  # gguf-py quantizes to these
READ = ("q4_k", "q5_k", "q6_k")
GGML = {name: gguf.GGMLQuantizationType[name.upper()] for name in (*MADE, *READ)}
RNG = np.random.default_rng(0)


SOON = ("q4_0", "int8", "int8_32")  # in bytes as ggml has them, and with f32 scales


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in SOON else pytest.mark.slow) for n in FORMATS])
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
@pytest.mark.parametrize("name", MADE)
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
def test_any_bytes_are_the_numbers_of_ggml(name: str) -> None:
    """Every bit random: scales that are infinite, or not a number, too."""
    data = RNG.integers(0, 256, (256, FORMATS[name].row_bytes(1024)), np.uint8)
    packed = Packed(name, "", (256, 1024), {"bytes": data})
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(data, GGML[name])
    for layout in ("", "planes"):
        ours = packed.relayout(np, layout).dequantize(np)
        real = ~np.isnan(expected)
        assert np.array_equal(np.isnan(ours), ~real)
        assert ours[real].tobytes() == expected[real].tobytes()
    assert 0.5 < real.mean() < 1


@pytest.mark.parametrize("name", READ)
def test_a_format_that_is_only_read_says_so(name: str) -> None:
    with pytest.raises(FormatError, match=f"{name} is read, not made, yet"):
        Packed.quantize(np, np.zeros((1, 256), "f4"), name)
    with pytest.raises(InferError, match=f"quantize: {name} is read, not made, yet"):
        find_op("quantize")(format=name).infer(Type("f32", (1, 256)))


@pytest.mark.parametrize("name", MADE)
def test_numbers_without_a_reciprocal_are_zeros(name: str) -> None:
    """1 / scale is infinite: ggml casts infinities to integers, which is another byte on another machine."""
    x = RNG.standard_normal((4, 64)).astype("f4") * np.float32(1e-40)
    packed = Packed.quantize(np, x, name)
    assert np.array_equal(packed.unpack(np)["code"], Packed.quantize(np, 0 * x, name).unpack(np)["code"])
    assert not packed.dequantize(np).any()


@pytest.mark.parametrize("name", [name for name, format in FORMATS.items() if format.is_made])
def test_joining_rows_and_quantizing_commute(name: str) -> None:
    a, b = SAMPLES["normal"][:5], SAMPLES["zeros"][:9]
    together = Packed.quantize(np, np.concatenate([a, b]), name).planes["bytes"]
    apart = [Packed.quantize(np, x, name).planes["bytes"] for x in (a, b)]
    assert np.array_equal(together, np.concatenate(apart))


def test_int8_rounds_to_the_nearest_of_255_steps() -> None:
    x = np.float32([[127, -127, 0.5, 1.5, 2.4, -3.6]])
    parts = Packed.quantize(np, x, "int8").unpack(np)
    assert parts["scale"].tolist() == [[1.0]]
    assert parts["code"].tolist() == [[127, -127, 0, 2, 2, -4]]


def test_int8_32_has_a_scale_for_each_group() -> None:
    x = np.repeat(np.float32([[127, 0, -254]]), 32, axis=1)
    parts = Packed.quantize(np, x, "int8_32").unpack(np)
    assert parts["scale"].tolist() == [[1.0, 0.0, 2.0]]
    assert parts["code"][0, ::32].tolist() == [127, 0, -127]


@pytest.mark.parametrize("name", ["int8", "int8_32"])
def test_codes_stay_in_range_for_subnormal_scales(name: str) -> None:
    x = np.full((1, 32), 200e-45, "f4")
    assert Packed.quantize(np, x, name).unpack(np)["code"].min() >= 0


def test_sizes() -> None:
    bits = {name: FORMATS[name].bits for name in ("q4_0", "q8_0", "q6_k", "int4_128", "int8_32", "int8")}
    assert bits == {"q4_0": 4.5, "q8_0": 8.5, "q6_k": 6.5625, "int4_128": 4.1875, "int8_32": 10.0, "int8": 8.0}
    ours = {name: FORMATS[name].row_bytes(256) for name in GGML}
    assert ours == {name: size * 256 // group for name in GGML for group, size in [gguf.GGML_QUANT_SIZES[GGML[name]]]}
    assert FORMATS["q4_0"].row_bytes(64) == 36
    assert Packed.quantize(np, np.zeros((3, 64), "f4"), "q4_0").nbytes == 3 * 36


def test_an_axis_that_the_group_does_not_divide_is_refused() -> None:
    for name in ("q4_0", "q8_0", "int8_32"):
        with pytest.raises(FormatError, match="groups of 32 do not divide an input axis of 33"):
            Packed.quantize(np, np.zeros((2, 33), "f4"), name)
    assert Packed.quantize(np, np.zeros((2, 33), "f4"), "int8").shape == (2, 33)


# ------------------------------------------------------------------------------------------------- made of their parts


def gptq() -> dict[str, np.ndarray]:
    """What a GPTQ checkpoint says of a matrix of 3 outputs and 256 inputs, its zero points counted from 1."""
    code = RNG.integers(0, 16, (3, 256)).astype("u1")
    zero, scale = RNG.integers(1, 17, (3, 2)).astype("u1"), RNG.random((3, 2)).astype("f2")
    return {"code": code, "zero": zero, "scale": scale}


def test_a_packed_value_is_made_of_parts() -> None:
    parts = gptq()
    packed = Packed.of_parts(np, "int4_128", parts)
    each = {k: np.repeat(parts[k], 128, axis=1).astype("f4") for k in ("scale", "zero")}
    assert np.array_equal(packed.dequantize(np), each["scale"] * (parts["code"] - each["zero"]))
    assert all(np.array_equal(packed.unpack(np)[k], v) for k, v in parts.items())
    assert packed.planes["bytes"].shape == (3, 2 * (2 + 1 + 64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zero": None}, "int4_128 is made of scale, zero, code, not of code, scale"),
        ({"minimum": np.zeros((3, 2), "f2")}, "not of code, zero, scale, minimum"),
        ({"scale": np.zeros((3, 2), "f4")}, r"int4_128: scale is float32\[3, 2\], not float16\[3, 2\]"),
        ({"scale": np.zeros((3, 256), "f2")}, r"scale is float16\[3, 256\], not float16\[3, 2\]"),
        ({"code": np.full((3, 256), 16, "u1")}, "code has 4 bits, which do not hold 16"),
        ({"code": np.zeros((3, 200), "u1")}, "groups of 128 do not divide an input axis of 200"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    parts = {k: v for k, v in (gptq() | changes).items() if v is not None}
    with pytest.raises(FormatError, match=message):
        Packed.of_parts(np, "int4_128", parts)


def test_one_format_is_another_where_their_parts_are_equal() -> None:
    """q4_0 is q5_0 of the same scales, with codes 8 higher: no number changes."""
    packed = Packed.quantize(np, SAMPLES["normal"], "q4_0")
    parts = packed.unpack(np)
    wider = Packed.of_parts(np, "q5_0", {"scale": parts["scale"], "code": parts["code"] + np.uint8(8)})
    assert wider.dequantize(np).tobytes() == packed.dequantize(np).tobytes()


def test_numbers_that_are_made_up_are_of_about_the_size_asked_for() -> None:
    for name, format in FORMATS.items():
        x = Packed.made_up(name, (32, 1024), np.random.default_rng(0), 0.5).dequantize(np)
        assert format.group == 0 or 0.02 < np.abs(x).mean() < 1


# --------------------------------------------------------------------------------------------------- the law can fail


def quantize(self: QuantFormat, x: np.ndarray) -> Parts:
    scale = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
    return {"scale": scale, "code": np.rint(x / np.where(scale == 0, np.float32(1), scale)).astype("i1")}


SOUND: dict[str, Any] = {
    "__doc__": "Eight bits and one f32 scale for 16 inputs.",
    "group": 16,
    "parts": (Part("scale", "f4"), Part("code", "i1", per="input")),
    "quantize": quantize,
}


def faulty(**changes: Any) -> QuantFormat:
    return FORMATS[type("Faulty", (QuantFormat,), {**SOUND, **changes}).name]


def truncating(self: QuantFormat, x: np.ndarray) -> Parts:
    parts = quantize(self, x)
    return {**parts, "code": (parts["code"] // 4 * 4).astype("i1")}


def dividing_by_zero(self: QuantFormat, x: np.ndarray) -> Parts:
    d = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
    with np.errstate(all="ignore"):
        return {"scale": np.where(d == 0, np.float32(np.nan), d), "code": np.nan_to_num(np.rint(x / d)).astype("i1")}


def looking_around(self: QuantFormat, x: np.ndarray) -> Parts:
    d = np.broadcast_to(np.abs(x).max(), (*x.shape[:-1], 1)) / np.float32(127)
    return {"scale": d.astype("f4"), "code": np.rint(x / d).astype("i1")}


def scribbling(self: QuantFormat, x: np.ndarray) -> Parts:
    parts = quantize(self, x)
    x *= 2
    return parts


def other_in_jax(self: QuantFormat, xp: Any, parts: Parts) -> Any:
    return QuantFormat.dequantize(self, xp, parts) * (1 if xp is np else 2)


def warning(self: QuantFormat, xp: Any, parts: Parts) -> Any:
    if xp is np and np.isnan(parts["scale"]).any():
        warnings.warn("not a number", stacklevel=1)
    return QuantFormat.dequantize(self, xp, parts)


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
        ({"dequantize": lambda self, xp, parts: parts["code"] * 1.0}, "dequantizes to f64"),
        ({"dequantize": warning}, "faulty, random bytes: not a number"),
        ({"is_made": False}, "says that it is only read, and quantizes"),
        ({"block": (Raw("scale"), Raw("code"), Raw("scale"))}, "bytes are"),
        ({"check": lambda self, inputs: None}, "accepts an axis of 17"),
        ({"__doc__": None}, "has no docstring"),
    ],
)
def test_a_wrong_format_breaks_a_law(registries: None, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_format(faulty(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": (Part("scale", "f4"),)}, "one part, the code, has an element for each input"),
        ({"run": 5}, "runs of 5 do not divide groups of 16"),
        ({"parts": (Part("table"), *SOUND["parts"])}, "without a `dequantize` of its own, no 'table' for each group"),
        ({"parts": (Part("scale", per="run"), SOUND["parts"][1])}, "no 'scale' for each run"),
    ],
)
def test_parts_that_mean_nothing_are_refused(registries: None, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        faulty(**changes)


def lossy(self: Layout, xp: Any, format: QuantFormat, parts: Parts, shape: tuple[int, ...]) -> Parts:
    return {**parts, "code": parts["code"] & ~1}


def rows_last(self: Layout, xp: Any, format: QuantFormat, parts: Parts, shape: tuple[int, ...]) -> Parts:
    return {k: xp.swapaxes(p, -2, -1) if len(shape) > 1 else p for k, p in parts.items()}


@pytest.mark.parametrize(
    ("arrange", "there_and_back", "message"),
    [
        (lossy, False, "layout 'faulty' loses bits of code"),
        (rows_last, True, "planes of layout 'faulty' begin with"),
    ],
)
def test_a_wrong_layout_breaks_a_law(registries: None, arrange: Any, there_and_back: bool, message: str) -> None:
    def back(self: Layout, xp: Any, format: QuantFormat, planes: Any, shape: tuple[int, ...]) -> Parts:
        return arrange(self, xp, format, planes, shape) if there_and_back else dict(planes)

    type("Faulty", (Layout,), {"name": "faulty", "pack": arrange, "unpack": back})
    with pytest.raises(AssertionError, match=message):
        check_format(FORMATS["q8_0"])
