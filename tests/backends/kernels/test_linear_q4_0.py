"""linear.q4_0 against float64, on every instruction set that is here."""

import functools

import numpy as np
import pytest

from burnish.backends.kernels import KERNELS, cpu, linear
from burnish.backends.kernels.tiles import ARRANGEMENTS
from burnish.ir.evaluate import evaluate
from burnish.ir.format import Packed
from burnish.ir.op import find_op

KERNEL = KERNELS["linear.q4_0"]
LINEAR = find_op("linear")(to="f32")
ROUNDING = 2.0**-23  # two roundings of f32: of the scales' product and of the sum; within a group sums are exact

LAYOUTS = [s.layout for s in cpu.instruction_sets()]
pytestmark = pytest.mark.skipif(not LAYOUTS, reason="this CPU has no instructions that the kernel is written for")
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


@functools.cache
def weights(rows: int, inputs: int, seed: int = 0) -> Packed:
    x = np.random.default_rng(seed).standard_normal((rows, inputs), np.float32)
    return Packed.quantize(np, x, "q4_0")


@functools.cache
def activations(*shape: int, seed: int = 1) -> Packed:
    x = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return Packed.quantize(np, x, "int8_32")


def floats(x: Packed) -> np.ndarray:
    """What x stands for, in float64, from its fields."""
    fields = x.unpack(np)
    q = fields["q"]
    q = np.concatenate([q & 15, q >> 4], axis=-1).astype(np.float64) - 8 if x.format == "q4_0" else q
    return (fields["d"].astype(np.float64) * q).reshape(x.shape)


def run(x: Packed, w: Packed, layout: str) -> np.ndarray:
    (y,) = KERNEL(LINEAR, ["f32"], x, w.relayout(np, layout))
    return y


def check(x: Packed, w: Packed, layout: str) -> None:
    """Each output within two f32 roundings of the sum of the magnitudes of its terms."""
    y, expected = run(x, w, layout), floats(x) @ floats(w).T
    assert y.dtype == np.float32
    assert y.shape == expected.shape
    assert np.all(np.abs(y - expected) <= ROUNDING * (np.abs(floats(x)) @ np.abs(floats(w)).T))


@every_layout
@pytest.mark.parametrize("inputs", [32, 96, 896, 4864])
@pytest.mark.parametrize("rows", [1, 8, 33])
def test_it_agrees_with_float64(layout: str, rows: int, inputs: int) -> None:
    for tokens in range(1, 10):
        check(activations(tokens, inputs, seed=tokens), weights(rows, inputs), layout)


@every_layout
@pytest.mark.parametrize("shape", [(64,), (1, 1, 64), (2, 3, 64)], ids=str)
def test_any_leading_axes(layout: str, shape: tuple[int, ...]) -> None:
    check(activations(*shape), weights(20, 64), layout)


@every_layout
@pytest.mark.parametrize("leading", [(0,), (3, 0)], ids=str)
def test_no_tokens(layout: str, leading: tuple[int, ...]) -> None:
    x = Packed("int8_32", "", (*leading, 64), {"bytes": np.empty((*leading, 72), np.uint8)})
    assert run(x, weights(20, 64), layout).shape == (*leading, 20)


@every_layout
@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("code", [-8, 7])
@pytest.mark.parametrize("input", [-127, 127])
def test_the_extremes_do_not_saturate(layout: str, tokens: int, code: int, input: int) -> None:
    rows, groups = 17, 28
    byte = (code + 8) * 0x11
    w = Packed("q4_0", "planes", (rows, groups * 32), {
        "d": np.full((rows, groups, 1), 0.5, np.float16), "q": np.full((rows, groups, 16), byte, np.uint8),
    })  # fmt: skip
    x = Packed("int8_32", "planes", (tokens, groups * 32), {
        "d": np.full((tokens, groups, 1), 0.25, np.float32), "q": np.full((tokens, groups, 32), input, np.int8),
    })  # fmt: skip
    assert np.array_equal(run(x.relayout(np, ""), w, layout), np.full((tokens, rows), groups * 4 * input * code))


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


@every_layout
def test_the_bias_and_the_type_of_the_result(layout: str) -> None:
    x, w, b = activations(3, 64), weights(20, 64), np.linspace(-1, 1, 20).astype("bfloat16")
    op, tiled = find_op("linear")(to="bf16"), w.relayout(np, layout)
    (y,), (expected,) = KERNEL(op, ["bf16"], x, tiled, b), evaluate(op, np, [x, w, b], ["bf16"])
    assert y.dtype == expected.dtype
    assert np.allclose(y.astype("f4"), expected.astype("f4"), rtol=2**-7, atol=1e-5)
    (without,) = KERNEL(LINEAR, ["f32"], x, tiled, None)
    assert np.array_equal(without, run(x, w, layout))


def test_tokens_instructions_and_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = activations(7, 896), weights(300, 896)
    monkeypatch.setattr(linear, "cores", lambda: 1)
    expected = run(x, w, LAYOUTS[0])
    for layout in LAYOUTS:
        each = [Packed("int8_32", "", (1, 896), {"bytes": row[None]}) for row in x.planes["bytes"]]
        assert np.array_equal(np.concatenate([run(row, w, layout) for row in each]), expected)
        monkeypatch.setattr(linear, "cores", lambda: 3)
        monkeypatch.setattr(linear, "BYTES_WORTH_A_THREAD", 1)
        for _ in range(20):
            assert np.array_equal(run(x, w, layout), expected)


@every_layout
def test_read_only_and_unaligned_planes(layout: str) -> None:
    x, w = activations(5, 96), weights(20, 96).relayout(np, layout)
    moved = {}
    for name, plane in w.planes.items():
        buffer = np.zeros(plane.nbytes + 4, np.uint8)
        moved[name] = buffer[4:].view(plane.dtype).reshape(plane.shape)
        moved[name][...] = plane
        moved[name].flags.writeable = False
    (y,) = KERNEL(LINEAR, ["f32"], x, w.with_planes(moved, w.shape))
    assert np.array_equal(y, run(x, w, layout))


@every_layout
def test_the_check_sees_a_wrong_order_of_nibbles(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = activations(4, 896), weights(33, 896)
    check(x, w, layout)
    monkeypatch.setattr(ARRANGEMENTS["q4_0"], "words", lambda xp, fields: fields["q"])  # ggml's own order
    with pytest.raises(AssertionError):
        check(x, w, layout)
