"""attention.tiles against float64, and the law that a row's bits depend on its query and on what it sees alone."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.backends.interpreter import Interpreter
from burnish.backends.kernels import KERNELS, find_kernel
from burnish.backends.native.code import addresses
from burnish.backends.native.cpu import InstructionSet
from burnish.ir import parse
from burnish.ir.op import find_op
from burnish.ir.types import Type
from tests.backends.kernels.guarded import BOTH, ENDS, call_kernel

KERNEL, ATTENTION = KERNELS["attention.tiles"], find_op("attention")
pytestmark = pytest.mark.skipif(not BOTH, reason="this CPU runs no native code")
every_cpu = pytest.mark.parametrize("isa", BOTH, ids=lambda isa: isa.name)
few = settings(max_examples=30, deadline=None)
some = settings(max_examples=10, deadline=None)

#: of the largest value, for each unit of the largest score, in units of f32's rounding
ERROR = 8 * 2.0**-24


@pytest.fixture(autouse=True, scope="module")
def _built() -> None:
    """First, so that what cannot be built fails once, and not in each example."""
    for isa in BOTH:
        addresses("attention", isa)


class Operands(NamedTuple):
    """By the names of `infer`."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    past: np.ndarray | None = None
    count: np.ndarray | None = None
    bias: np.ndarray | None = None
    k_before: np.ndarray | None = None
    v_before: np.ndarray | None = None
    sinks: np.ndarray | None = None


def run(attributes: dict[str, Any], operands: Operands, isa: InstructionSet, **how: Any) -> np.ndarray:
    (y,) = call_kernel(KERNEL, ATTENTION(**attributes), *operands, isa=isa, **how)
    return y.copy()


def exact(attributes: dict[str, Any], operands: Operands) -> tuple[np.ndarray, float]:
    """The result in float64, and how far f32 may be from it."""
    wide = Operands(*(x.astype("f8") if x is not None and x.dtype == np.float32 else x for x in operands))
    with np.errstate(all="ignore"):
        y = ATTENTION(**attributes).eval(np, *wide)
        keys = wide.k if wide.k_before is None else np.concatenate([wide.k_before, wide.k], axis=1)
        largest = np.sqrt((wide.q**2).sum(-1).max(initial=0) * (keys**2).sum(-1).max(initial=0)) * attributes["scale"]
    values = [np.abs(x).max(initial=0) for x in (operands.v, operands.v_before) if x is not None]
    return y, ERROR * (1 + largest) * max(values)


def same(x: np.ndarray, y: np.ndarray) -> bool:
    return x.shape == y.shape and x.tobytes() == y.tobytes()


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], Operands]:
    """Every form of attention."""
    batch, tokens, keys = draw(st.integers(0, 3)), draw(st.integers(0, 40)), draw(st.integers(0, 300))
    key_heads, group = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 7, 70]))
    head, value = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))

    def floats(*shape: int, order: tuple[int, ...] = ()) -> np.ndarray:
        x = random.standard_normal([shape[i] for i in order] if order else shape, np.float32)
        return x.transpose(np.argsort(order)) if order else x

    def strided(*shape: int) -> np.ndarray:
        return floats(*shape, order=draw(st.sampled_from([(0, 1, 2, 3), (0, 2, 1, 3), (1, 0, 2, 3), (0, 1, 3, 2)])))

    def counts(most: int) -> np.ndarray:
        return random.integers(0, most + 1, batch).astype("i4")

    heads, causal, form = key_heads * group, draw(st.booleans()), draw(st.sampled_from(["plain", "past", "before"]))
    window = draw(st.sampled_from([0, 1, 5, 64, 200])) if causal or form == "plain" else 0
    q, k, v = (
        strided(batch, tokens, heads, head),
        strided(batch, keys, key_heads, head),
        strided(batch, keys, key_heads, value),
    )
    given: dict[str, np.ndarray] = {}
    if form != "plain":
        given["past"] = counts(keys if form == "past" else 1000)
    if form == "before":
        rows = draw(st.integers(0, 130))
        given["k_before"], given["v_before"] = (
            strided(batch, rows, key_heads, head),
            strided(batch, rows, key_heads, value),
        )
    if draw(st.booleans()):
        given["count"] = counts(keys + 3)
    if draw(st.booleans()):
        full = (batch, heads, tokens, 1 if form == "before" else keys)
        shape = tuple(n if draw(st.booleans()) else 1 for n in full)[draw(st.integers(0, 3)) :]
        mask = draw(st.booleans())
        given["bias"] = random.random(shape) < 0.7 if mask else np.round(2 * floats(*shape)) / 2  # zeros among them
        if not mask and draw(st.booleans()):
            given["bias"] = np.where(random.random(shape) < 0.3, np.finfo("f4").min, given["bias"])
    if draw(st.booleans()):
        given["sinks"] = floats(heads)
    no_keys = draw(st.sampled_from(["zero", "nan"]))
    softcap = draw(st.sampled_from([0.0, 0.0, 3.0]))
    attributes = {"scale": 0.2, "causal": causal, "window": window, "no_keys": no_keys, "softcap": softcap}
    return attributes, Operands(q, k, v, **given)


@every_cpu
@few
@given(case=cases(), at_end=st.sampled_from(ENDS), threads=st.integers(1, 3), seed=st.integers(0, 99))
def test_it_is_what_float64_says(
    isa: InstructionSet, case: tuple[dict[str, Any], Operands], at_end: bool, threads: int, seed: int
) -> None:
    attributes, operands = case
    y, error = exact(attributes, operands)
    got = run(attributes, operands, isa, at_end=at_end, threads=threads, seed=seed)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, y, rtol=0, atol=error)


@some
@given(case=cases())
def test_every_instruction_set_and_plan_gives_the_same_bits(case: tuple[dict[str, Any], Operands]) -> None:
    results = [run(*case, isa, threads=threads, seed=threads) for isa in BOTH for threads in (1, 2, 3)]
    assert all(same(r, results[0]) for r in results)


class Sequence(NamedTuple):
    """What one sequence's tokens ask, and hold, and the bias of each of them to each, with what every token does."""

    attributes: dict[str, Any]
    q: np.ndarray  # [tokens, heads, head]
    k: np.ndarray
    v: np.ndarray
    bias: np.ndarray | None  # [heads, tokens, tokens]
    sinks: np.ndarray | None


def sequence(tokens: int, window: int, group: int, biased: bool, seed: int) -> Sequence:
    random = np.random.default_rng(seed)
    q, k, v = (random.standard_normal((tokens, n, size), np.float32) for n, size in ((2 * group, 20), (2, 20), (2, 36)))
    attributes = {"scale": 0.3, "causal": True, "window": window, "softcap": 5.0 * biased}
    bias = random.standard_normal((2 * group, tokens, tokens), np.float32) if biased and not window else None
    return Sequence(attributes, q, k, v, bias, random.standard_normal(2 * group, np.float32) if biased else None)


def chunk(s: Sequence, begin: int, end: int, capacity: int) -> Operands:
    """Its tokens from `begin` to `end`, with keys in a cache, or with those before them; what is not there is NaN."""
    past = np.array([begin], np.int32)
    if s.attributes["window"]:
        rows = s.attributes["window"] - 1

        def before(x: np.ndarray) -> np.ndarray:
            ring = np.full((1, rows, *x.shape[1:]), np.nan, np.float32)
            kept = min(begin, rows)
            ring[0, rows - kept :] = x[begin - kept : begin]
            return ring

        new = [x[None, begin:end] for x in (s.q, s.k, s.v)]
        return Operands(*new, past, k_before=before(s.k), v_before=before(s.v), sinks=s.sinks)

    def cache(x: np.ndarray) -> np.ndarray:
        made = np.full((1, x.shape[1], capacity, x.shape[2]), np.nan, np.float32).transpose(0, 2, 1, 3)
        made[0, :end] = x[:end]
        return made

    bias = s.bias
    if bias is not None:
        bias = np.full((1, len(s.bias), end - begin, capacity), np.nan, np.float32)
        bias[0, :, :, :end] = s.bias[:, begin:end, :end]
    return Operands(s.q[None, begin:end], cache(s.k), cache(s.v), past, bias=bias, sinks=s.sinks)


@every_cpu
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize("window", [0, 5, 90, 300])
@some
@given(
    sizes=st.lists(st.sampled_from([1, 2, 3, 7, 16, 40, 100]), min_size=1, max_size=8),
    start=st.sampled_from([0, 1, 60, 250, 511]),
    group=st.sampled_from([1, 3, 7]),
    capacity=st.integers(0, 300),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_chunks_of_any_size_give_the_same_bits(
    isa: InstructionSet,
    window: int,
    biased: bool,
    sizes: list[int],
    start: int,
    group: int,
    capacity: int,
    threads: int,
    seed: int,
) -> None:
    ends = [start, *(start + n for n in itertools.accumulate(sizes))]
    s = sequence(ends[-1], window, group, biased, seed)
    whole = run(s.attributes, chunk(s, 0, ends[-1], ends[-1]), isa)
    assert np.isfinite(whole).all()
    for begin, end in itertools.pairwise(ends):
        part = run(s.attributes, chunk(s, begin, end, end + capacity), isa, threads=threads, seed=seed)
        assert same(part[0], whole[0, begin:end])


@every_cpu
@some
@given(
    pasts=st.lists(st.integers(0, 700), min_size=2, max_size=4),
    tokens=st.sampled_from([1, 3, 20]),
    window=st.sampled_from([0, 90]),
    threads=st.integers(1, 3),
)
def test_a_sequence_gives_the_same_bits_alone_and_in_company(
    isa: InstructionSet, pasts: list[int], tokens: int, window: int, threads: int
) -> None:
    attributes = {"scale": 0.3, "causal": True, "window": window}
    each = [chunk(sequence(at + tokens, window, 3, False, at), at, at + tokens, 720) for at in pasts]
    together = Operands(*(None if xs[0] is None else np.concatenate(xs) for xs in zip(*each, strict=True)))
    y = run(attributes, together, isa, threads=threads)
    for i, alone in enumerate(each):
        assert same(y[i], run(attributes, alone, isa)[0])


@every_cpu
@some
@given(real=st.integers(1, 200), more=st.integers(0, 150), threads=st.integers(1, 3))
def test_padding_of_an_encoder_changes_no_bit(isa: InstructionSet, real: int, more: int, threads: int) -> None:
    random = np.random.default_rng(real)
    q, k, v = (random.standard_normal((1, real + more, 4, 32), np.float32) for _ in range(3))
    for x in (k, v):
        x[:, real:] = np.nan
    padded = run({"scale": 0.2}, Operands(q, k, v, count=np.array([real], np.int32)), isa, threads=threads)
    mask = np.arange(real + more) < real
    masked = run({"scale": 0.2}, Operands(q, *(np.nan_to_num(x) for x in (k, v)), bias=mask), isa, threads=threads)
    short = run({"scale": 0.2}, Operands(*(x[:, :real] for x in (q, k, v))), isa)
    assert same(padded[:, :real], short)
    assert same(masked[:, :real], short)


@every_cpu
@pytest.mark.parametrize("bias", [np.zeros, np.ones], ids=["zeros", "all-visible"])
@pytest.mark.parametrize("shape", list(itertools.product((1, 2), (1, 4), (1, 3), (1, 70))), ids=str)
def test_a_bias_that_says_nothing_changes_no_bit(isa: InstructionSet, bias: Any, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    q, k, v = (random.standard_normal((2, n, heads, 8), np.float32) for n, heads in ((3, 4), (70, 2), (70, 2)))
    given = bias(shape, np.float32 if bias is np.zeros else np.bool_)
    assert same(run({"scale": 0.3}, Operands(q, k, v, bias=given), isa), run({"scale": 0.3}, Operands(q, k, v), isa))


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f64"])
def test_what_is_not_f32_is_refused(dtype: str) -> None:
    x = Type(dtype, (1, 2, 3, 4))
    assert KERNEL.why_not(ATTENTION(scale=1.0), x, x, x) == f"{x} is not f32"
    f32, bias = Type("f32", (1, 2, 3, 4)), Type(dtype, (2, 2))
    assert KERNEL.why_not(ATTENTION(scale=1.0), f32, f32, f32, None, None, bias) == f"{bias} is not f32"


def test_a_graph_runs_it() -> None:
    text = """module {
      graph f(%q: f32[B, S, 6, 8], %k: f32[B, C, 2, 8], %v: f32[B, C, 2, 8], %past: i32[B]) {
        %0: f32[B, S, 6, 8] = attention(%q, %k, %v, %past, scale=0.5, causal=true)
        return y=%0
      }
    }"""
    module = parse(text)
    (node,) = module.graphs["f"].order()
    assert find_kernel(node.op, [v.type for v in node.inputs]).kernel is KERNEL
    random = np.random.default_rng(0)
    shapes = {"q": (2, 5, 6, 8), "k": (2, 300, 2, 8), "v": (2, 300, 2, 8)}
    inputs = {n: random.standard_normal(s, np.float32) for n, s in shapes.items()}
    inputs["past"] = np.array([3, 280], np.int32)
    y = Interpreter(module)("f", inputs)["y"]
    np.testing.assert_allclose(y, Interpreter(module, kernels={})("f", inputs)["y"], rtol=0, atol=1e-6)
