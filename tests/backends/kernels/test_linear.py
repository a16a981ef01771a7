"""linear.int8 against float64, for every format that it reads, on every instruction set that is here."""

import functools

import numpy as np
import pytest

from burnish.backends.kernels import KERNELS, cpu, linear
from burnish.backends.kernels.linear import why_unread
from burnish.ir.evaluate import evaluate
from burnish.ir.format import FORMATS, Packed, Parts, QuantFormat
from burnish.ir.op import find_op
from burnish.ir.parts import Part

KERNEL = KERNELS["linear.int8"]
LINEAR = find_op("linear")(to="f32")
ROUNDING = 2.0**-23  # two roundings of f32: of the scales' product and of the sum; within a run sums are exact

LAYOUTS = [s.layout for s in cpu.instruction_sets()]
READ = [name for name, format in FORMATS.items() if why_unread(format) is None]
pytestmark = pytest.mark.skipif(not LAYOUTS, reason="this CPU has no instructions that the kernel is written for")
#: each layout and each format is compiled, which takes seconds
every_layout = pytest.mark.parametrize(
    "layout", [*LAYOUTS[:1], *(pytest.param(name, marks=pytest.mark.slow) for name in LAYOUTS[1:])]
)
every_format = pytest.mark.parametrize(
    "format", [name if name == "q4_0" else pytest.param(name, marks=pytest.mark.slow) for name in READ]
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


def run(x: Packed, w: Packed, layout: str) -> np.ndarray:
    (y,) = KERNEL(LINEAR, ["f32"], x, w.relayout(np, layout))
    return y


def check(x: Packed, w: Packed, layout: str) -> None:
    """Each output within two f32 roundings of the sum of the magnitudes of its terms."""
    (x_floats, x_size), (w_floats, w_size) = terms(x), terms(w)
    y, expected = run(x, w, layout), x_floats @ w_floats.T
    assert y.dtype == np.float32
    assert y.shape == expected.shape
    assert np.all(np.abs(y - expected) <= ROUNDING * (x_size @ w_size.T))


def test_the_formats_that_it_reads_follow_from_their_parts() -> None:
    ours = {"int4_128", "int8_32", "q4_0", "q4_1", "q4_k", "q5_0", "q5_1", "q5_k", "q6_k", "q8_0"}
    assert set(READ) >= ours
    assert "the groups of int8 are not of 32 inputs" in str(why_unread(FORMATS["int8"]))


@every_layout
@every_format
def test_it_agrees_with_float64(layout: str, format: str) -> None:
    group = FORMATS[format].group
    for tokens in range(1, 6):
        for rows, groups in ((1, 1), (8, 3), (33, 1024 // group), (40, 2)):
            inputs = groups * group
            check(activations(tokens, inputs, seed=tokens), weights(format, rows, inputs), layout)


@every_layout
@pytest.mark.parametrize("inputs", [32, 896, 4864])
@pytest.mark.parametrize("rows", [8, 33])
def test_sizes_of_real_models(layout: str, rows: int, inputs: int) -> None:
    x = np.random.default_rng(0).standard_normal((rows, inputs), np.float32)
    for tokens in range(1, 10):
        check(activations(tokens, inputs, seed=tokens), Packed.quantize(np, x, "q4_0"), layout)


@every_layout
@pytest.mark.parametrize("shape", [(64,), (1, 1, 64), (2, 3, 64)], ids=str)
def test_any_leading_axes(layout: str, shape: tuple[int, ...]) -> None:
    check(activations(*shape), weights("q4_0", 20, 64), layout)


@every_layout
@pytest.mark.parametrize("leading", [(0,), (3, 0)], ids=str)
def test_no_tokens(layout: str, leading: tuple[int, ...]) -> None:
    x = Packed("int8_32", "", (*leading, 64), {"bytes": np.empty((*leading, 72), np.uint8)})
    assert run(x, weights("q4_0", 20, 64), layout).shape == (*leading, 20)


@every_layout
@every_format
@pytest.mark.parametrize("tokens", [1, 4])
def test_the_extremes_do_not_saturate(layout: str, format: str, tokens: int) -> None:
    """The largest and the smallest codes by the largest inputs: sums are whole numbers, and exact."""
    fmt, inputs = FORMATS[format], 1024
    x = np.full((tokens, inputs), 127, np.int8)
    x[:, ::2] *= -1 if tokens > 1 else 1
    scale = np.full((tokens, inputs // 32), 0.25, np.float32)
    inward = Packed.of_parts(np, "int8_32", {"code": x, "scale": scale})
    small, large = (-128, 127) if fmt.code.dtype == "i1" else (0, (1 << fmt.code.width) - 1)
    for code in (small, large):
        parts = {}
        for p in fmt.parts:
            value = {"code": code, "scale": 0.5, "minimum": -2, "zero": 16, "subscale": 3, "subminimum": 5}[p.name]
            parts[p.name] = np.full((17, fmt.elements(p, inputs)), value, p.dtype)
        w = Packed.of_parts(np, format, parts)
        expected = terms(inward)[0] @ terms(w)[0].T
        assert np.array_equal(run(inward, w, layout), expected)


@every_layout
@pytest.mark.parametrize("tokens", [1, 5])
def test_groups_with_a_scale_of_zero(layout: str, tokens: int) -> None:
    values = np.random.default_rng(0).standard_normal((20, 128), np.float32)
    values[:, 32:64] = 0
    values[3] = 0
    w, x = Packed.quantize(np, values, "q4_0"), activations(tokens, 128)
    check(x, w, layout)
    assert np.array_equal(run(x, w, layout)[:, 3], np.zeros(tokens))
    nothing = Packed.quantize(np, np.zeros((tokens, 128), np.float32), "int8_32")
    assert np.array_equal(run(nothing, w, layout), np.zeros((tokens, 20)))


@pytest.mark.slow
@every_layout
def test_codes_that_are_the_zero_point_add_nothing(layout: str) -> None:
    code = np.full((20, 256), 11, np.uint8)
    parts = {"code": code, "zero": np.full((20, 2), 11, np.uint8), "scale": np.full((20, 2), 0.1, np.float16)}
    w = Packed.of_parts(np, "int4_128", parts)
    assert np.array_equal(run(activations(3, 256), w, layout), np.zeros((3, 20)))


@every_layout
def test_the_bias_and_the_type_of_the_result(layout: str) -> None:
    x, w, b = activations(3, 64), weights("q4_0", 20, 64), np.linspace(-1, 1, 20).astype("bfloat16")
    op, tiled = find_op("linear")(to="bf16"), w.relayout(np, layout)
    (y,), (expected,) = KERNEL(op, ["bf16"], x, tiled, b), evaluate(op, np, [x, w, b], ["bf16"])
    assert y.dtype == expected.dtype
    assert np.allclose(y.astype("f4"), expected.astype("f4"), rtol=2**-7, atol=1e-5)
    (without,) = KERNEL(LINEAR, ["f32"], x, tiled, None)
    assert np.array_equal(without, run(x, w, layout))


@every_format
def test_tokens_instructions_and_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    x, w = activations(7, 1024), weights(format, 300, 1024)
    monkeypatch.setattr(linear, "cores", lambda: 1)
    expected = run(x, w, LAYOUTS[0])
    for layout in LAYOUTS:
        each = [Packed("int8_32", "", (1, 1024), {"bytes": row[None]}) for row in x.planes["bytes"]]
        assert np.array_equal(np.concatenate([run(row, w, layout) for row in each]), expected)
        monkeypatch.setattr(linear, "cores", lambda: 3)
        monkeypatch.setattr(linear, "BYTES_WORTH_A_THREAD", 1)
        for _ in range(20):
            assert np.array_equal(run(x, w, layout), expected)


@every_layout
def test_read_only_and_unaligned_planes(layout: str) -> None:
    x, w = activations(5, 96), weights("q4_0", 20, 96).relayout(np, layout)
    moved = {}
    for name, plane in w.planes.items():
        buffer = np.zeros(plane.nbytes + 4, np.uint8)
        moved[name] = buffer[4:].view(plane.dtype).reshape(plane.shape)
        moved[name][...] = plane
        moved[name].flags.writeable = False
    (y,) = KERNEL(LINEAR, ["f32"], x, w.with_planes(moved, w.shape))
    assert np.array_equal(y, run(x, w, layout))


@pytest.mark.slow
@every_layout
def test_one_matrix_of_a_stack_of_experts(layout: str) -> None:
    experts = Packed.made_up("q4_k", (3, 20, 256), np.random.default_rng(0))
    tiled, x = experts.relayout(np, layout), activations(2, 256)
    for i in range(3):
        alone = experts.with_planes({k: p[i] for k, p in experts.planes.items()}, (20, 256))
        (y,) = KERNEL(LINEAR, ["f32"], x, tiled.with_planes({k: p[i] for k, p in tiled.planes.items()}, (20, 256)))
        assert np.array_equal(y, run(x, alone, layout))


@pytest.mark.slow
@every_layout
@pytest.mark.parametrize("part", ["code", "scale", "subscale", "subminimum"])
def test_the_check_sees_parts_in_another_order(layout: str, part: str) -> None:
    x, w = activations(4, 512), weights("q4_k", 33, 512)
    check(x, w, layout)
    parts = dict(w.unpack(np))
    other = Packed.of_parts(np, "q4_k", {**parts, part: np.ascontiguousarray(parts[part][..., ::-1])})
    y, (x_floats, x_size), (w_floats, w_size) = run(x, other, layout), terms(x), terms(w)
    assert not np.all(np.abs(y - x_floats @ w_floats.T) <= ROUNDING * (x_size @ w_size.T))


# ------------------------------------------------------------------------------------------- formats of others' making


def made(registries: None, **changes: object) -> QuantFormat:
    sound = {"__doc__": "A format of a plugin.", "group": 64, "parts": (Part("scale", "f4"), CODE)}
    return FORMATS[type("Other", (QuantFormat,), {**sound, **changes}).name]


CODE = Part("code", per="input", bits=3)


@pytest.mark.slow
@every_layout
def test_a_format_of_a_plugin_is_read_by_its_parts(registries: None, layout: str) -> None:
    """3 bits, runs of 16, signed sub-scales, f32 scales and minima, and a constant zero: as no format of ours."""
    parts = (Part("scale", "f4"), Part("minimum", "f4"), Part("subscale", "i1", per="run"), CODE)
    format = made(registries, parts=parts, run=16, zero=4)
    assert why_unread(format) is None
    w = Packed.made_up("other", (40, 256), np.random.default_rng(0))
    for tokens in (1, 5):
        check(activations(tokens, 256), w, layout)


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
        assert not np.isfinite(run(activations(2, 256), w, LAYOUTS[0])).any()
    assert not recwarn.list
