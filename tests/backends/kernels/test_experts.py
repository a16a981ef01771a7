"""expert_linear, on floats and in int8: for each choice, the bits of a linear with the expert's weights."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS, find_kernel, float_linear, linear
from burnish.backends.native.cpu import InstructionSet
from burnish.ir.format import FORMATS, Packed
from burnish.ir.op import Array, find_op
from burnish.ir.types import NUMPY, Type
from tests.backends.kernels.guarded import BOTH, ENDS, call_kernel

FLOATS, INT8 = KERNELS["expert_linear.floats"], KERNELS["expert_linear.int8"]
LINEARS = {FLOATS: KERNELS["linear.floats"], INT8: KERNELS["linear.int8"]}
EXPERTS, LINEAR = find_op("expert_linear"), find_op("linear")
ROUNDING = 2.0**-23  # as in test_linear.py

needs_code = pytest.mark.skipif(not BOTH, reason="this CPU runs no native code")
every_cpu = pytest.mark.parametrize("isa", BOTH, ids=lambda isa: isa.name)
every_kind = pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        (FLOATS, "f32"), (FLOATS, "q4_0"), (INT8, "q4_0"), (INT8, "int8"),
        *(pytest.param(INT8, kind, marks=pytest.mark.slow) for kind in ("q8_0", "q4_k", "q6_k", "int4_128")),
    ],
    ids=lambda x: getattr(x, "name", x),
)  # fmt: skip


def weights(kind: str, experts: int, rows: int, inputs: int) -> Array:
    rng = np.random.default_rng((experts, rows, inputs))
    if kind in FORMATS:
        return Packed.made_up(kind, (experts, rows, inputs), rng)
    return rng.standard_normal((experts, rows, inputs), np.float32).astype(NUMPY[kind])


def one(w: Array, e: int) -> Array:
    return w.with_planes({k: p[e] for k, p in w.planes.items()}, w.shape[1:]) if isinstance(w, Packed) else w[e]


def some(x: Array, mine: np.ndarray) -> Array:
    """x[mine], over the leading axes."""
    if not isinstance(x, Packed):
        return x[mine]
    rows = {k: p[mine] for k, p in x.planes.items()}
    return x.with_planes(rows, (int(mine.sum()), x.shape[-1]))


def for_each(x: Array, k: int) -> Array:
    """x[…, 1 or k, K] as [..., k, K]."""
    if not isinstance(x, Packed):
        return np.broadcast_to(x, (*x.shape[:-2], k, x.shape[-1]))
    rows = {name: np.broadcast_to(p, (*p.shape[:-2], k, p.shape[-1])) for name, p in x.planes.items()}
    return x.with_planes(rows, (*x.shape[:-2], k, x.shape[-1]))


def run(kernel: object, isa: InstructionSet, x: Array, w: Array, *others: Array | None, **how: object) -> np.ndarray:
    """What a kernel gives, of the op that it is for; those of int8 get tiles and rounded inputs."""
    op = EXPERTS if others and len(w.shape) == 3 else LINEAR
    if "int8" not in kernel.name:
        return call_kernel(kernel, op(), x, w, *others, isa=isa, **how)[0]
    with patch.object(linear, "instruction_sets", lambda: (isa,)):
        return call_kernel(kernel, op(to="f32"), x, w.relayout(np, isa.layout), *others, isa=isa, **how)[0]


@needs_code
@every_cpu
@every_kind
@given(st.data(), st.sampled_from(ENDS))
@settings(max_examples=15, deadline=None)
def test_each_choice_has_the_bits_of_a_linear(
    isa: InstructionSet, kernel: object, kind: str, data: st.DataObject, at_end: bool
) -> None:
    """Whichever experts the other tokens choose, and how many tokens choose the same; out of bounds is the nearest."""
    group = FORMATS[kind].group if kind in FORMATS else 32
    experts, rows, inputs = (
        data.draw(st.integers(1, 9)),
        data.draw(st.integers(1, 70)),
        (group or 32) * data.draw(st.integers(1, 3)),
    )
    lead, k = data.draw(st.sampled_from([(), (1,), (3, 7), (0,), (float_linear.MANY,)])), data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    x: Array = rng.standard_normal((*lead, data.draw(st.sampled_from([1, k])), inputs), np.float32)
    x = Packed.quantize(np, x, "int8_32") if kernel is INT8 else x
    chosen = rng.integers(-1, experts + 1, (*lead, k)).astype("i4")
    w, b = weights(kind, experts, rows, inputs), rng.standard_normal((experts, rows), np.float32)
    y = run(kernel, isa, x, w, chosen, b, at_end=at_end)
    assert y.shape == (*chosen.shape, rows)
    given_rows = for_each(x, k)
    for e in range(experts):
        mine = chosen.clip(0, experts - 1) == e
        assert np.array_equal(y[mine], run(LINEARS[kernel], isa, some(given_rows, mine), one(w, e), b[e]))


@needs_code
@every_cpu
def test_floats_agree_with_float64(isa: InstructionSet) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((11, 1, 96), np.float32), weights("f32", 5, 20, 96)
    chosen = rng.integers(0, 5, (11, 3)).astype("i4")
    y = run(FLOATS, isa, x, w, chosen, None)
    expected = np.einsum("tk,tjnk->tjn", x[:, 0].astype("f8"), w.astype("f8")[chosen])
    terms = np.einsum("tk,tjnk->tjn", np.abs(x[:, 0]).astype("f8"), np.abs(w).astype("f8")[chosen])
    assert np.all(np.abs(y - expected) <= 12 * 2.0**-24 * terms)


@needs_code
@every_cpu
@pytest.mark.parametrize("kind", ["q4_0", "int8"])
@given(tokens=st.integers(1, 20), k=st.integers(1, 4), rows=st.integers(1, 70), groups=st.integers(1, 5))
@settings(max_examples=15, deadline=None)
def test_int8_agrees_with_float64(isa: InstructionSet, kind: str, tokens: int, k: int, rows: int, groups: int) -> None:
    """Within two f32 roundings of the sum of the magnitudes of the terms."""
    rng, inputs = np.random.default_rng((tokens, k, rows)), 32 * groups
    x = Packed.quantize(np, rng.standard_normal((tokens, k, inputs), np.float32), "int8_32")
    w, chosen = weights(kind, 5, rows, inputs), rng.integers(0, 5, (tokens, k)).astype("i4")
    y = run(INT8, isa, x, w, chosen, None)
    wide, each = x.dequantize(np).astype("f8"), w.dequantize(np).astype("f8")[chosen]
    expected, terms = (np.einsum("tjk,tjnk->tjn", f(wide), f(each)) for f in (np.asarray, np.abs))
    assert np.all(np.abs(y - expected) <= ROUNDING * terms)


@needs_code
@every_cpu
@every_kind
@pytest.mark.parametrize("tokens", [1, 5])
def test_an_expert_that_nobody_chose_is_not_read(isa: InstructionSet, kernel: object, kind: str, tokens: int) -> None:
    """Its weights may be anything."""
    w = weights(kind, 4, 20, 256)
    x: Array = np.ones((tokens, 1, 256), np.float32)
    x, chosen = Packed.quantize(np, x, "int8_32") if kernel is INT8 else x, np.array([[1, 3]] * tokens, "i4")
    expected = run(kernel, isa, x, w, chosen, None).copy()
    for plane in w.planes.values() if isinstance(w, Packed) else [w]:
        plane[[0, 2]] = 255 if isinstance(w, Packed) else np.nan
    assert np.array_equal(run(kernel, isa, x, w, chosen, None), expected)


@needs_code
def test_products_of_the_same_choices_sort_them_once() -> None:
    """Two products of the same rows gather them once, too."""
    from burnish.backends.native.emit import Emitter
    from burnish.backends.native.tensor import tensor_of

    emitter, isa = Emitter(BOTH[0], 2), BOTH[0]
    x = tensor_of(Packed.quantize(np, np.ones((5, 1, 64), np.float32), "int8_32"), "given")
    chosen = tensor_of(np.zeros((5, 2), "i4"), "given")
    w = tensor_of(weights("q4_0", 4, 20, 64).relayout(np, isa.layout), "fixed")
    for _ in range(2):
        INT8.emit(emitter, EXPERTS(to="f32"), [Type("f32", (5, 2, 20))], x, w, chosen)
    functions = [call.function for call in emitter.calls]
    assert functions == ["sort", "gather", "linear", "scatter", "linear", "scatter"]


@pytest.mark.parametrize(
    ("types", "to", "reason"),
    [
        (("bf16", "f32", "i32", "f32"), "", "x is bf16[5, 1, 32], not f32"),
        (("f32", "f64", "i32", "f32"), "", "w is f64[4, 20, 32], not f32"),
        (("f32", "f32", "i64", "f32"), "", "chosen is i64[5, 2], not i32"),
        (("f32", "f32", "i32", "f64"), "", "b is f64[4, 20], wider than f32"),
        (("f32", "f32", "i32", "f32"), "bf16", "the result is bf16, not f32"),
    ],
)
def test_what_floats_do_not_take_has_a_reason(types: tuple[str, ...], to: str, reason: str) -> None:
    shapes = ((5, 1, 32), (4, 20, 32), (5, 2), (4, 20))
    assert reason in str(FLOATS.why_not(EXPERTS(to=to), *(Type(t, s) for t, s in zip(types, shapes, strict=True))))


@needs_code
@pytest.mark.parametrize(
    ("types", "to", "reason"),
    [
        (("int8_32", "f32", "i32", "f32"), "f32", "w is f32[4, 20, 32], not quantized"),
        (("f32", "q4_0", "i32", "f32"), "f32", "x is f32[5, 1, 32], not int8_32"),
        (("int8_32", "q4_0", "i64", "f32"), "f32", "chosen is i64[5, 2], not i32"),
        (("int8_32", "q4_0", "i32", "f64"), "f32", "b is f64[4, 20]"),
        (("int8_32", "q4_0", "i32", "f32"), "bf16", "or the result bf16"),
    ],
)
def test_what_int8_does_not_take_has_a_reason(types: tuple[str, ...], to: str, reason: str) -> None:
    x, w, chosen, b = types
    given = (
        Type(x, (5, 1, 32)), Type(w, (4, 20, 32), BOTH[0].layout if w in FORMATS else ""), Type(chosen, (5, 2)),
        Type(b, (4, 20)),
    )  # fmt: skip
    assert reason in str(INT8.why_not(EXPERTS(to=to), *given))


@needs_code
def test_weights_as_files_have_them_are_refused() -> None:
    x, w, chosen = Type("int8_32", (5, 1, 32)), Type("q4_0", (4, 20, 32)), Type("i32", (5, 2))
    assert f"not in the layout {BOTH[0].layout}" in str(INT8.why_not(EXPERTS(to="f32"), x, w, chosen))
    assert find_kernel(EXPERTS(to="f32"), [x, w, chosen]).kernel is None
