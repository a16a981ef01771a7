"""What a rule must keep beside ordinary numbers: ids that are negative, rows without keys, casts that lose, -0.0, NaN.

Each graph means the same before and after the pipeline, on both backends, and what an independent definition says.
"""

from collections.abc import Mapping

import numpy as np
import pytest

from burnish.backends.target import make_backend
from burnish.ir import Module, parse
from burnish.ir.module import WeightEntry
from burnish.ir.types import Type
from burnish.ir.weights import MemoryWeights
from burnish.passes.pipelines import run_passes

TABLE = np.random.default_rng(0).standard_normal((5, 4)).astype("f4")
both_backends = pytest.mark.parametrize("backend", ["numpy", "xla"])
Arrays = Mapping[str, np.ndarray]
WEIGHTS: Arrays = {"w": TABLE}


def module_of(body: str, weights: Arrays = WEIGHTS) -> Module:
    """`graph forward` of these lines, over weights."""
    entries = ", ".join(f"@{name}: f32[{', '.join(map(str, w.shape))}]" for name, w in weights.items())
    module = parse(f"module {{\n weights {{ {entries} }}\n graph forward{body}\n}}")
    module.weights = {name: WeightEntry(Type("f32", w.shape)) for name, w in weights.items()}
    module.source = MemoryWeights(dict(weights))
    return module


def applied(body: str, pipeline: str = "default") -> list[str]:
    return [a.rule for a in run_passes(module_of(body), pipeline).applied]


def means(body: str, inputs: Arrays, expected: np.ndarray, backend: str, pipeline: str = "default") -> None:
    """The graph's one output, as it is and after the pipeline."""
    for passes in ("", pipeline):
        module = run_passes(module_of(body), passes).module
        runner = make_backend(backend, module)
        (found,) = (runner.to_numpy(x) for x in runner("forward", inputs).values())
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        close = np.isclose(found.astype("f8"), expected.astype("f8"), rtol=1e-5, atol=1e-6, equal_nan=True)
        assert close.all(), f"{'after' if passes else 'before'} {pipeline}:\n{module}"


# ------------------------------------------------------------------------------------------------------- ids, negative

LOOK_UP = """(%ids: i32[N]) {
    %0: f32[N, 4] = gather(@w, %ids, axis=0) <- "look up"
    return y=%0
  }"""
CAST_LOOK_UP = """(%ids: i32[N]) {
    %0: i64[N] = cast(%ids, to="i64") <- "wider"
    %1: f32[N, 4] = gather(@w, %0, axis=0) <- "look up"
    return y=%1
  }"""
NARROW_LOOK_UP = CAST_LOOK_UP.replace("i64", "i8")
KNOWN_LOOK_UP = """() {
    %0: f32[2, 4] = gather(@w, i64([-1, -5]), axis=0) <- "look up"
    return y=%0
  }"""
FAR_LOOK_UP = """() {
    %0: f32[3, 4] = gather(@w, i64([4294967296, -4294967297, 2]), axis=0) <- "look up"
    return y=%0
  }"""
ONE_ROW = """(%i: i32[1]) {
    %0: i32[3] = broadcast_to(%i, shape=[3]) <- "repeated"
    %1: f32[3, 4] = gather(@w, %0, axis=0) <- "look up"
    return y=%1
  }"""
IDS = np.array([0, 4, -1, -5, -2, 3], "i4")


@both_backends
@pytest.mark.parametrize(
    ("body", "inputs", "rows"),
    [
        (LOOK_UP, {"ids": IDS}, IDS),
        (CAST_LOOK_UP, {"ids": IDS}, IDS),
        (NARROW_LOOK_UP, {"ids": np.array([1, 255, 257, 253], "i4")}, [1, -1, 1, -3]),
        (KNOWN_LOOK_UP, {}, [-1, -5]),
        (ONE_ROW, {"i": np.array([-2], "i4")}, [-2, -2, -2]),
    ],
)
def test_a_look_up_counts_negative_ids_from_the_end(body: str, inputs: Arrays, rows: list[int], backend: str) -> None:
    means(body, inputs, TABLE[rows], backend)


def test_known_ids_beyond_32_bits_are_the_nearest_row() -> None:
    means(FAR_LOOK_UP, {}, TABLE[[4, 0, 2]], "numpy")


def test_a_look_up_is_found_where_ids_are_as_they_were() -> None:
    assert "EmbeddingFromGather" in applied(LOOK_UP)
    assert "EmbeddingFromGather" in applied(CAST_LOOK_UP)
    module = run_passes(module_of(NARROW_LOOK_UP), "default").module
    assert any(n.op.name == "cast" for n in module.graphs["forward"])  # it takes something away


def test_one_number_everywhere_is_one_to_the_last_bit() -> None:
    zeros = """(%i: i32[1, 3]) {
    %0: f32[1, 3] = gather_elements(f32([[0.0, -0.0]]), %i, axis=1) <- "signs"
    return y=%0
  }"""
    assert "GatherOfOneNumber" not in applied(zeros)
    assert "GatherOfOneNumber" in applied(zeros.replace("-0.0", "0.0"))


# --------------------------------------------------------------------------------------------------- rows without a key

RNG = np.random.default_rng(1)
Q, K, V = (RNG.standard_normal((2, 2, n, 4)).astype("f4") for n in (3, 5, 5))
HIDDEN = np.zeros((2, 1, 3, 5), "f4")
HIDDEN[0, 0, 1], HIDDEN[1, 0, :, 3] = -np.inf, -np.inf


def attended(replaced: str = "", bias_type: str = "f32[B, 1, S, T]", guard: str = "") -> str:
    """softmax(q kᵀ + bias) v, `replaced` between the softmax and the product, `guard` behind it."""
    weights = "%3" if not replaced else "%5"
    out = "%6" if not guard else "%8"
    return f"""(%q: f32[B, 2, S, 4], %k: f32[B, 2, T, 4], %v: f32[B, 2, T, 4], %bias: {bias_type}) {{
    %0: f32[B, 2, 4, T] = transpose(%k, perm=[0, 1, 3, 2]) <- "turn"
    %1: f32[B, 2, S, T] = matmul(%q, %0) <- "scores"
    %2: f32[B, 2, S, T] = add(%1, %bias) <- "biased"
    %3: f32[B, 2, S, T] = softmax(%2) <- "softmax"
    {replaced}
    %6: f32[B, 2, S, 4] = matmul({weights}, %v) <- "mix"
    {guard}
    return y={out}
  }}"""


REPLACED = """%4: bool[B, 2, S, T] = isnan(%3) <- "none"
    %5: f32[B, 2, S, T] = where(%4, f32(0.0), %3) <- "replaced\""""
GUARDED = """%7: bool[B, 2, S, 4] = isnan(%6) <- "none"
    %8: f32[B, 2, S, 4] = where(%7, f32(0.0), %6) <- "guarded\""""


def mixed(bias: np.ndarray, none: float) -> np.ndarray:
    """A row at a time, in float64; `none` is what a row without a key gets."""
    out = np.full((2, 2, 3, 4), none)
    for b, h, s in np.ndindex(2, 2, 3):
        scores = K[b, h].astype("f8") @ Q[b, h, s] + np.broadcast_to(bias, (2, 2, 3, 5))[b, h, s]
        if (seen := np.isfinite(scores)).any():
            p = np.exp(scores - scores[seen].max())
            out[b, h, s] = p @ V[b, h] / p.sum()
    return out.astype("f4")


@both_backends
@pytest.mark.parametrize(
    ("body", "none"),
    [(attended(), np.nan), (attended(REPLACED), 0.0), (attended(guard=GUARDED), 0.0)],
    ids=["softmax", "replaced", "guarded"],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_row_without_keys_is_what_the_source_says(body: str, none: float, backend: str) -> None:
    inputs = {"q": Q, "k": K, "v": V, "bias": HIDDEN}
    assert "AttentionFromParts" in applied(body)
    means(body, inputs, mixed(HIDDEN, none), backend)


@both_backends
def test_a_row_whose_keys_are_all_hidden_by_a_finite_number_sees_them_all(backend: str) -> None:
    bias = np.where(np.isinf(HIDDEN), np.float32(-64), HIDDEN)
    means(attended(), {"q": Q, "k": K, "v": V, "bias": bias}, mixed(bias, np.nan), backend)


def test_where_a_mask_is_causal_every_token_sees_a_key() -> None:
    module = run_passes(module_of(CAUSAL), "default").module
    (attention,) = [n for n in module.graphs["forward"] if n.op.name == "attention"]
    assert (attention.op.causal, attention.op.no_keys, attention.get("bias")) == (True, "zero", None)


CAUSAL = """(%q: f32[B, 2, S, 4], %k: f32[B, 2, S, 4], %v: f32[B, 2, S, 4]) {
    %0: f32[B, 2, 4, S] = transpose(%k, perm=[0, 1, 3, 2]) <- "turn"
    %1: f32[B, 2, S, S] = matmul(%q, %0) <- "scores"
    %2: i32[S] = iota(size=S) <- "key"
    %3: i32[S, 1] = unsqueeze(%2, axes=[1]) <- "row"
    %4: bool[S, S] = less_or_equal(%2, %3) <- "causal"
    %5: f32[S, S] = where(%4, f32(0.0), f32(-inf)) <- "bias"
    %6: f32[B, 2, S, S] = add(%1, %5) <- "biased"
    %7: f32[B, 2, S, S] = softmax(%6) <- "softmax"
    %8: f32[B, 2, S, 4] = matmul(%7, %v) <- "mix"
    return y=%8
  }"""


# ------------------------------------------------------------------------------------------------- what is built fits


@both_backends
def test_a_bias_of_more_sequences_than_the_scores_leaves_attention_in_parts(backend: str) -> None:
    body = attended(bias_type="f32[3, 1, S, T]").replace("B, 2, S", "1, 2, S").replace("[B", "[1")
    for name in ("%2", "%3", "%6"):
        body = body.replace(f"{name}: f32[1", f"{name}: f32[3")
    bias = RNG.standard_normal((3, 1, 3, 5)).astype("f4")
    scores = np.einsum("hsd,htd->hst", Q[0].astype("f8"), K[0])[None] + bias
    p = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.einsum("bhst,htd->bhsd", p / p.sum(-1, keepdims=True), V[0]).astype("f4")
    assert "AttentionFromParts" not in applied(body)
    means(body, {"q": Q[:1], "k": K[:1], "v": V[:1], "bias": bias}, expected, backend)


@both_backends
@pytest.mark.parametrize("where", [0, 1, 2], ids=["one", "half", "root"])
def test_an_activation_whose_constants_have_more_axes_is_found(where: int, backend: str) -> None:
    from scipy.special import erf

    one, half, root = (
        ["1.0", "0.5", "1.4142135"][i] if i != where else f"[[[{c}]]]"
        for i, c in enumerate(["1.0", "0.5", "1.4142135"])
    )
    wide = "[1, N, 4]"
    inner = wide if where == 2 else "[N, 4]"
    outer = wide if where != 1 else "[N, 4]"
    body = f"""(%x: f32[N, 4]) {{
    %0: f32{inner} = div(%x, f32({root})) <- "div"
    %1: f32{inner} = erf(%0) <- "erf"
    %2: f32{outer} = add(%1, f32({one})) <- "add"
    %3: f32{outer} = mul(%x, %2) <- "mul"
    %4: f32{wide} = mul(%3, f32({half})) <- "half"
    return y=%4
  }}"""
    x = RNG.standard_normal((3, 4)).astype("f4")
    assert "GeluFromErf" in applied(body)
    means(body, {"x": x}, (0.5 * x * (1 + erf(x / 2**0.5)))[None].astype("f4"), backend)


# ---------------------------------------------------------------------------------------------------------------- casts


def cast(x: str, a: str, b: str) -> str:
    return f"""(%x: {x}[N]) {{
    %0: {a}[N] = cast(%x, to="{a}") <- "first"
    %1: {b}[N] = cast(%0, to="{b}") <- "second"
    return y=%1
  }}"""


@pytest.mark.parametrize(
    ("body", "x", "expected"),
    [
        (cast("i64", "f64", "i64"), np.array([2**53 + 1, 7], "i8"), np.array([2**53, 7], "i8")),
        (cast("i8", "f32", "u8"), np.array([-1, 5], "i1"), np.array([0, 5], "u1")),
        (cast("i32", "i64", "i8"), np.array([300, -1], "i4"), np.array([44, -1], "i1")),
        (cast("i8", "f32", "i32"), np.array([-128, 5], "i1"), np.array([-128, 5], "i4")),
        (cast("f32", "i32", "f32"), np.array([1.5, -2.5], "f4"), np.array([1, -2], "f4")),
        (cast("f16", "f32", "i32"), np.array([np.nan, np.inf, -1.5], "f2"), np.array([0, 2**31 - 1, -1], "i4")),
    ],
)
def test_casts_are_merged_where_nothing_is_lost_between(body: str, x: np.ndarray, expected: np.ndarray) -> None:
    means(body, {"x": x}, expected, "numpy")


@both_backends
def test_a_norm_does_not_look_through_a_cast_to_integers(backend: str) -> None:
    def norm(through: str) -> str:
        return f"""(%x: f32[N, 4]) {{
    %0: {through}[N, 4] = cast(%x, to="{through}") <- "there"
    %1: f32[N, 4] = cast(%0, to="f32") <- "back"
    %2: f32[N, 4] = mul(%1, %1) <- "square"
    %3: f32[N, 1] = reduce_mean(%2, axes=[-1]) <- "mean"
    %4: f32[N, 1] = add(%3, f32(1e-05)) <- "eps"
    %5: f32[N, 1] = rsqrt(%4) <- "root"
    %6: f32[N, 4] = mul(%1, %5) <- "scaled"
    %7: f32[N, 4] = mul(%6, @g) <- "weighted"
    return y=%7
  }}"""

    x, g = np.array([[1.5, -2.5, 3.9, 0.2]], "f4"), np.array([1, 2, 3, 4], "f4")
    for through in ("i32", "f64"):
        body = norm(through)
        seen = np.trunc(x) if through == "i32" else x
        expected = (seen / np.sqrt((seen.astype("f8") ** 2).mean() + 1e-5) * g).astype("f4")
        for passes in ("", "recover"):
            module = run_passes(module_of(body, {"g": g}), passes).module
            (y,) = make_backend("numpy" if through == "f64" else backend, module)("forward", {"x": x}).values()
            assert np.allclose(np.asarray(y), expected, rtol=1e-5)


def test_a_number_in_a_pattern_is_no_integer_that_it_would_be_cut_to() -> None:
    from burnish.ir import Ops, Value
    from burnish.passes.pattern import trace

    def half(self: object, op: Ops, x: Value) -> object:
        return op.mul(x, 0.5)

    (pattern,) = trace(half.__get__(object()))
    for number, fits in (("i32(0)", False), ("i32(1)", False)):
        graph = module_of(f"""(%x: i32[N]) {{
    %0: i32[N] = mul(%x, {number}) <- "mul"
    return y=%0
  }}""").graphs["forward"]
        (node,) = [n for n in graph if n.op.name == "mul"]
        assert bool(list(pattern.matches(node))) is fits
