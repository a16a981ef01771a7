"""linear.int8 against float64, for every format that it reads, on every instruction set that is here."""

import functools
import itertools
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS, linear
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.linear import why_unread
from burnish.backends.native.cpu import InstructionSet
from burnish.ir.format import FORMATS, Packed, Parts, QuantFormat
from burnish.ir.op import find_op
from burnish.ir.parts import Part
from burnish.ir.types import Type
from tests.backends.kernels.guarded import BOTH, ENDS, call_kernel

KERNEL = KERNELS["linear.int8"]
assert isinstance(KERNEL, NativeKernel)
LINEAR = find_op("linear")(to="f32")
ROUNDING = 2.0**-23  # two roundings of f32: of the scales' product and of the sum; within a run sums are exact

READ = [name for name, format in FORMATS.items() if why_unread(format) is None]
pytestmark = pytest.mark.skipif(not BOTH, reason="this CPU has no instruction set that kernels are written for")
every_set = pytest.mark.parametrize("isa", BOTH, ids=lambda s: s.name)
#: each is compiled once, which takes seconds
every_format = pytest.mark.parametrize(
    "format", [n if n in ("q4_0", "int8") else pytest.param(n, marks=pytest.mark.slow) for n in READ]
)


@functools.cache
def weights(format: str, rows: int, inputs: int) -> Packed:
    return Packed.made_up(format, (rows, inputs), np.random.default_rng(0))


@functools.cache
def activations(*shape: int, seed: int = 1) -> Packed:
    x = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return Packed.quantize(np, x, "int8_32")


def terms(x: Packed) -> tuple[np.ndarray, np.ndarray]:
    """What x stands for in float64, from its parts, and the magnitude of what adds up to it."""
    fmt, parts = FORMATS[x.format], {k: p.astype(np.float64) for k, p in x.unpack(np).items()}

    def every_input(name: str, default: float) -> np.ndarray:
        part = fmt.part(name)
        if part is None:
            return np.full(x.shape, default)
        return np.repeat(parts[name], x.shape[-1] // parts[name].shape[-1], axis=-1)

    scaled = every_input("scale", 0) * every_input("subscale", 1) * (parts["code"] - every_input("zero", fmt.zero))
    least = every_input("minimum", 0) * every_input("subminimum", 1)
    return scaled + least, np.abs(scaled) + np.abs(least)


def run(
    x: Packed, w: Packed, isa: InstructionSet, b: np.ndarray | None = None, end: bool = True, seed: int = 0
) -> np.ndarray:
    with patch.object(linear, "instruction_sets", lambda: (isa,)):
        (y,) = call_kernel(KERNEL, LINEAR, x, w.relayout(np, isa.layout), b, isa=isa, at_end=end, seed=seed)
    return y


def check(x: Packed, w: Packed, isa: InstructionSet, end: bool = True) -> None:
    """Each output within two f32 roundings of the sum of the magnitudes of its terms."""
    (x_floats, x_size), (w_floats, w_size) = terms(x), terms(w)
    y, expected = run(x, w, isa, end=end), x_floats @ w_floats.T
    assert y.dtype == np.float32
    assert y.shape == expected.shape
    assert np.all(np.abs(y - expected) <= ROUNDING * (x_size @ w_size.T))


def test_the_formats_that_it_reads_follow_from_their_parts() -> None:
    ours = {"int4_128", "int8", "q4_0", "q4_1", "q4_k", "q5_0", "q5_1", "q5_k", "q6_k", "q8_0"}
    assert set(READ) >= ours


@every_set
@every_format
@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(1, 20), rows=st.integers(1, 70), groups=st.integers(1, 4), end=st.sampled_from(ENDS))
def test_it_agrees_with_float64(
    isa: InstructionSet, format: str, tokens: int, rows: int, groups: int, end: bool
) -> None:
    inputs = groups * (FORMATS[format].group or 160)
    check(activations(tokens, inputs, seed=tokens), weights(format, rows, inputs), isa, end)


@every_set
@pytest.mark.parametrize("inputs", [32, 896, 4864])
@pytest.mark.parametrize("rows", [8, 33])
def test_sizes_of_real_models(isa: InstructionSet, rows: int, inputs: int) -> None:
    x = np.random.default_rng(0).standard_normal((rows, inputs), np.float32)
    for tokens in range(1, 10):
        check(activations(tokens, inputs, seed=tokens), Packed.quantize(np, x, "q4_0"), isa)


@every_set
@pytest.mark.parametrize("shape", [(64,), (1, 1, 64), (2, 3, 64)], ids=str)
def test_any_leading_axes(isa: InstructionSet, shape: tuple[int, ...]) -> None:
    check(activations(*shape), weights("q4_0", 20, 64), isa)


@every_set
@pytest.mark.parametrize("leading", [(0,), (3, 0)], ids=str)
def test_no_tokens(isa: InstructionSet, leading: tuple[int, ...]) -> None:
    x = Packed("int8_32", "", (*leading, 64), {"bytes": np.empty((*leading, 80), np.uint8)})
    assert run(x, weights("q4_0", 20, 64), isa).shape == (*leading, 20)


@every_set
@every_format
@pytest.mark.parametrize("tokens", [1, 4])
def test_the_extremes_do_not_saturate(isa: InstructionSet, format: str, tokens: int) -> None:
    """The largest and the smallest codes by the largest inputs: sums are whole numbers, and exact."""
    fmt, inputs = FORMATS[format], 1024
    code = np.full((tokens, inputs), 127, np.int8)
    code[:, ::2] *= -1 if tokens > 1 else 1
    inward = {
        "code": code,
        "sum": code.reshape(tokens, -1, 16).sum(axis=-1).astype("i2"),
        "scale": np.full((tokens, inputs // 32), 0.25, np.float32),
    }
    x = Packed.of_parts(np, "int8_32", inward)
    small, large = (-128, 127) if fmt.code.dtype == "i1" else (0, (1 << fmt.code.width) - 1)
    for extreme in (small, large):
        values = {"code": extreme, "scale": 0.5, "minimum": -2, "zero": 16, "subscale": 3, "subminimum": 5}
        parts = {p.name: np.full((17, fmt.elements(p, inputs)), values[p.name], p.dtype) for p in fmt.parts}
        w = Packed.of_parts(np, format, parts)
        assert np.array_equal(run(x, w, isa), terms(x)[0] @ terms(w)[0].T)


@every_set
@pytest.mark.parametrize("tokens", [1, 5])
def test_groups_with_a_scale_of_zero(isa: InstructionSet, tokens: int) -> None:
    values = np.random.default_rng(0).standard_normal((20, 128), np.float32)
    values[:, 32:64] = 0
    values[3] = 0
    w, x = Packed.quantize(np, values, "q4_0"), activations(tokens, 128)
    check(x, w, isa)
    assert np.array_equal(run(x, w, isa)[:, 3], np.zeros(tokens))
    nothing = Packed.quantize(np, np.zeros((tokens, 128), np.float32), "int8_32")
    assert np.array_equal(run(nothing, w, isa), np.zeros((tokens, 20)))


@pytest.mark.slow
@every_set
def test_codes_that_are_the_zero_point_add_nothing(isa: InstructionSet) -> None:
    code = np.full((20, 256), 11, np.uint8)
    parts = {"code": code, "zero": np.full((20, 2), 11, np.uint8), "scale": np.full((20, 2), 0.1, np.float16)}
    w = Packed.of_parts(np, "int4_128", parts)
    assert np.array_equal(run(activations(3, 256), w, isa), np.zeros((3, 20)))


@every_set
@pytest.mark.parametrize("rows", [1, 16, 20, 33])
@pytest.mark.parametrize("tokens", [1, 5])
def test_a_bias_is_added_to_the_sum(isa: InstructionSet, rows: int, tokens: int) -> None:
    x, w, b = activations(tokens, 64), weights("q4_0", rows, 64), np.linspace(-1, 1, rows).astype("f4")
    apart = np.repeat(b, 3)[::3]
    for end, bias in itertools.product(ENDS, (b, apart)):
        assert np.array_equal(run(x, w, isa, bias, end), run(x, w, isa) + b)


@every_format
@settings(max_examples=10, deadline=None)
@given(rows=st.integers(1, 70), tokens=st.integers(1, 20), seed=st.integers(0, 99))
def test_tokens_instructions_and_threads_do_not_change_a_bit(format: str, rows: int, tokens: int, seed: int) -> None:
    """The items are done in pieces by chance, as threads take them."""
    inputs = 2 * (FORMATS[format].group or 160)
    x, w = activations(20, inputs), weights(format, rows, inputs)
    expected = run(x, w, BOTH[0])
    for isa in BOTH:
        some = x.with_planes({"bytes": x.planes["bytes"][20 - tokens :]}, (tokens, inputs))
        assert np.array_equal(run(some, w, isa, seed=seed), expected[20 - tokens :])


@pytest.mark.slow
@every_set
def test_one_matrix_of_a_stack_of_experts(isa: InstructionSet) -> None:
    experts = Packed.made_up("q4_k", (3, 20, 256), np.random.default_rng(0))
    tiled, x = experts.relayout(np, isa.layout), activations(2, 256)
    for i in range(3):
        alone = experts.with_planes({k: p[i] for k, p in experts.planes.items()}, (20, 256))
        one = tiled.with_planes({k: p[i] for k, p in tiled.planes.items()}, (20, 256))
        assert np.array_equal(run(x, one, isa), run(x, alone, isa))


@pytest.mark.slow
@every_set
@pytest.mark.parametrize("part", ["code", "scale", "subscale", "subminimum"])
def test_the_check_sees_parts_in_another_order(isa: InstructionSet, part: str) -> None:
    x, w = activations(4, 512), weights("q4_k", 33, 512)
    check(x, w, isa)
    parts = dict(w.unpack(np))
    other = Packed.of_parts(np, "q4_k", {**parts, part: np.ascontiguousarray(parts[part][..., ::-1])})
    y, (x_floats, x_size), (w_floats, w_size) = run(x, other, isa), terms(x), terms(w)
    assert not np.all(np.abs(y - x_floats @ w_floats.T) <= ROUNDING * (x_size @ w_size.T))


@pytest.mark.parametrize(
    ("x", "w", "b", "to", "reason"),
    [
        (Type("int8_32", (3, 64)), Type("f32", (8, 64)), None, "f32", "w is f32[8, 64], not quantized"),
        (Type("f32", (3, 64)), Type("q4_0", (8, 64), "LAYOUT"), None, "f32", "x is f32[3, 64], not int8_32"),
        (Type("int8_32", (3, 64)), Type("q4_0", (8, 64)), None, "f32", "w is q4_0[8, 64], not in the layout LAYOUT"),
        (Type("int8_32", (3, 64)), Type("q4_0", (8, 64), "LAYOUT"), Type("f64", (8,)), "f32", "b is f64[8]"),
        (Type("int8_32", (3, 64)), Type("q4_0", (8, 64), "LAYOUT"), None, "bf16", "or the result bf16"),
    ],
)
def test_a_refusal_has_a_reason(x: Type, w: Type, b: Type | None, to: str, reason: str) -> None:
    layout = BOTH[0].layout
    w = Type(w.dtype, w.shape, layout) if w.layout else w
    assert reason.replace("LAYOUT", layout) in str(KERNEL.why_not(find_op("linear")(to=to), x, w, b))


# ------------------------------------------------------------------------------------------- formats of others' making


def made(registries: None, **changes: object) -> QuantFormat:
    sound = {"__doc__": "A format of a plugin.", "group": 64, "parts": (Part("scale", "f4"), CODE)}
    return FORMATS[type("Other", (QuantFormat,), {**sound, **changes}).name]


CODE = Part("code", per="input", bits=3)


@pytest.mark.slow
@every_set
def test_a_format_of_a_plugin_is_read_by_its_parts(registries: None, isa: InstructionSet) -> None:
    """3 bits, runs of 16, signed sub-scales, f32 scales and minima, and a constant zero: as no format of ours."""
    parts = (Part("scale", "f4"), Part("minimum", "f4"), Part("subscale", "i1", per="run"), CODE)
    format = made(registries, parts=parts, run=16, zero=4)
    assert why_unread(format) is None
    w = Packed.made_up("other", (40, 256), np.random.default_rng(0))
    for tokens in (1, 5):
        check(activations(tokens, 256), w, isa)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dequantize": lambda self, xp, parts: parts["code"].astype("f4")}, "other has a meaning of its own"),
        ({"group": 16}, "the groups of other are not of 32 inputs or a multiple"),
        ({"run": 8}, "other has runs of 8 inputs, not of 16 or a multiple of 32"),
        ({"parts": (Part("scale", "f4"), Part("code", per="input"))}, "codes of 8 bits (u1)"),
        ({"parts": (Part("scale", "f4"), Part("code", per="input", bits=7))}, "codes of 7 bits (u1)"),
        ({"parts": (Part("scale", "f4"), Part("zero"), Part("code", "i1", per="input"))}, "codes of 8 bits (i1)"),
        ({"parts": (Part("scale", "f8"), CODE)}, "other has a scale of type f8, not f2 or f4"),
        ({"parts": (Part("scale", "f4"), Part("zero", "i1"), CODE)}, "other has a zero of type i1, not u1"),
    ],
)
def test_a_format_that_is_not_read_has_a_reason(registries: None, changes: dict[str, object], reason: str) -> None:
    assert reason in str(why_unread(made(registries, **changes)))


def test_hostile_scales_give_such_numbers(recwarn: pytest.WarningsRecorder) -> None:
    parts: Parts = weights("q4_k", 16, 256).unpack(np)
    for value in (np.inf, np.nan):
        w = Packed.of_parts(np, "q4_k", {**parts, "scale": np.full_like(parts["scale"], value)})
        assert not np.isfinite(run(activations(2, 256), w, BOTH[0])).any()
    assert not recwarn.list
