"""For every op: examples, and what they must come to by other means than the op's own `eval`.

An oracle gets the inputs, floats as float64, and answers in float64: by PyTorch, or by a loop that is written out.
How far an op may be off follows from what it does: nothing where it only moves numbers, one unit for one operation, a
few for a function of a library (those of NumPy, SciPy and XLA state at most 4), and for sums their number of terms.
`tests/ir/ops/test_<family>.py` holds each op to its examples, on NumPy and traced by JAX, in f32 and bf16.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
import torch
import torch.nn.functional as F

from burnish.ir import OPS, Graph, Module, Packed, Type
from burnish.ir.leaves import Constant
from burnish.ir.literal import Literal
from burnish.testing import Example
from burnish.testing.ops import gamma
from burnish.testing.running import is_float

RNG = np.random.default_rng(0)
STRUCTURE = {"weight": "its data is the module's", "return": "it has no results"}  # ops that nothing evaluates


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype("f4")


def integers(low: int, high: int, *shape: int, dtype: str = "i4") -> np.ndarray:
    return RNG.integers(low, high, shape, dtype=dtype)


def truths(*shape: int) -> np.ndarray:
    return RNG.random(shape) < 0.5


def op(name: str, **attributes: Any) -> Any:
    return OPS[name](**attributes)


def by_torch(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """An oracle out of a function of tensors (float64 where the op takes floats)."""

    def oracle(*inputs: np.ndarray) -> np.ndarray:
        return function(*(None if x is None else torch.from_numpy(np.array(x)) for x in inputs)).numpy()

    return oracle


def elementwise(function: Callable[..., float]) -> Callable[..., np.ndarray]:
    """An oracle that is a loop over the elements, each a Python number."""

    def oracle(*inputs: np.ndarray) -> np.ndarray:
        rows = zip(*(x.ravel().tolist() for x in np.broadcast_arrays(*inputs)), strict=True)
        return np.array([function(*row) for row in rows]).reshape(np.broadcast_shapes(*(x.shape for x in inputs)))

    return oracle


INF, NAN = math.inf, math.nan
SPECIAL = np.array([0.0, -0.0, 1.5, -2.5, INF, -INF, NAN, 3e4, -1e-3], "f4")
PAIRS = np.array(list(itertools.product(SPECIAL, repeat=2)), "f4").T.copy()
I32 = np.iinfo("i4")
INTEGERS = np.array([0, 1, -1, 2, -2, 7, -7, I32.max, I32.min], "i4")
INTEGER_PAIRS = np.array(list(itertools.product(INTEGERS, repeat=2)), "i4").T.copy()


def wrap(x: int) -> int:
    """A Python integer as 32 bits hold it."""
    return (x + 2**31) % 2**32 - 2**31


def truncated(a: int, b: int) -> int:
    """a / b towards zero, in exact integers."""
    return 0 if b == 0 else wrap(abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1))


def integer_power(a: int, b: int) -> int:
    return wrap(a**b) if b >= 0 else {1: 1, -1: 1 if b % 2 == 0 else -1}.get(a, 0)


def binary(name: str, on_floats: Callable, on_integers: Callable | None, units: float = 1) -> list[Example]:
    """Broadcasting, the special floats in all pairs, and the corners of i32 in all pairs."""
    floats = by_torch(on_floats)
    found = [Example(op(name), (normal(3, 1, 5), normal(4, 5)), floats, units), Example(op(name), (*PAIRS,), floats)]
    if on_integers is not None:
        found.append(Example(op(name), (*INTEGER_PAIRS,), elementwise(on_integers)))
    return found


def unary(name: str, function: Callable, *, units: float = 4, positive: bool = False, special: bool = True) -> list:
    """Ordinary numbers over some orders of magnitude, and the special ones."""
    x = normal(4, 33) * np.float32([[0.1], [1.0], [3.0], [8.0]])
    x = np.abs(x) + np.float32(0.01) if positive else x
    found = [Example(op(name), (x,), by_torch(function), units)]
    return [*found, Example(op(name), (SPECIAL,), by_torch(function), units)] if special else found


def sums(op: Any, inputs: tuple, oracle: Callable[..., Any], terms: int) -> Example:
    """Sums of so many products of inputs, weights being read as what they stand for."""
    return Example(
        op,
        inputs,
        lambda *x: oracle(*map(floats, x)),
        units=2,  # a scale or a bias, and the rounding before a cast
        terms=terms,
        magnitude=lambda *x: oracle(*(np.abs(floats(a)) for a in x)),
    )


def apart(example: Example) -> np.ndarray:
    """How far two results of it may be apart, in f32."""
    assert example.magnitude is not None
    size = example.magnitude(*(x.astype("f8") if is_float(x) else x for x in example.inputs))
    return 2 * size * (2.0**-24 + example.units * 2.0**-23 + gamma(example.terms))


# ------------------------------------------------------------------------------------------------- attention, in loops


def attention(scale: float, causal: bool = False, window: int = 0, softcap: float = 0) -> Callable[..., np.ndarray]:
    """The definition, a token and a head at a time."""

    def oracle(
        q: Any, k: Any, v: Any, past: Any = None, count: Any = None, bias: Any = None, *before: Any
    ) -> np.ndarray:
        out, sinks = np.zeros((*q.shape[:3], v.shape[3])), before[2] if before else None
        full = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
        bias = np.zeros(full) if bias is None else np.broadcast_to(bias, full)
        for b, s, h in np.ndindex(*q.shape[:3]):
            at, group = (0 if past is None else past[b]) + s, h // (q.shape[2] // k.shape[2])
            scores = {}
            for j in range(k.shape[1]):
                hidden = causal and (j > at or (window > 0 and j <= at - window))
                hidden = hidden or (count is not None and j >= count[b])
                hidden = hidden or (bias.dtype == bool and not bias[b, h, s, j])
                if not hidden:
                    added = 0.0 if bias.dtype == bool else bias[b, h, s, j]
                    score = scale * math.fsum(q[b, s, h] * k[b, j, group])
                    scores[j] = (softcap * math.tanh(score / softcap) if softcap else score) + added
            own = list(scores.items())
            if sinks is not None:
                scores[-1] = float(sinks[h])
            top = max(scores.values(), default=0.0)
            total = math.fsum(math.exp(x - top) for x in scores.values())
            for j, x in own:
                out[b, s, h] += math.exp(x - top) / total * v[b, j, group]
        return out

    return oracle


def attention_with_rows_before(**attributes: Any) -> Callable[..., np.ndarray]:
    """A cache of all positions, those before the rows that are given hidden by a mask, a sequence at a time."""

    def oracle(
        q: Any, k: Any, v: Any, past: Any, count: Any, bias: Any, k_before: Any, v_before: Any, sinks: Any = None
    ) -> np.ndarray:
        out = []
        for b, (p, r) in enumerate(zip(past.tolist(), [k_before.shape[1]] * len(past), strict=True)):
            caches = []
            for new, before in ((k, k_before), (v, v_before)):
                cache = np.full((1, p + new.shape[1], *new.shape[2:]), NAN)
                cache[0, max(0, p - r) : p] = before[b, max(0, r - p) :]
                cache[0, p:] = new[b]
                caches.append(cache)
            keys = np.arange(p + k.shape[1])
            real = (keys >= p - r) & (keys < p + (k.shape[1] if count is None else count[b]))
            full = (1, q.shape[2], q.shape[1], len(keys))
            added = np.zeros(full) if bias is None else np.broadcast_to(bias[min(b, len(bias) - 1)], full)
            shown = added if added.dtype == bool else np.ones(full, bool)
            float_bias = np.zeros(full) if added.dtype == bool else added
            # what is added to all keys of a token alike changes nothing, where there are no sinks
            assert (float_bias == float_bias[..., :1]).all()
            more = (past[b : b + 1], None, shown & real, None, None, sinks)
            out.append(attention(**attributes)(q[b : b + 1], *caches, *more))
        return np.concatenate(out)

    return oracle


def attended(scale: float, *inputs: Any, causal: bool = False, window: int = 0) -> Example:
    """An error of a score is one of its weight, in the numerator and in the total alike."""
    oracle = attention(scale, causal, window)
    q, k, _, _, _, bias = (*inputs, None, None, None)[:6]
    queries, keys = (np.abs(x).reshape(len(x), -1, x.shape[3]) for x in (q, k))
    largest = scale * float((queries @ keys.transpose(0, 2, 1)).max())
    if bias is not None and bias.dtype != bool:
        largest += float(np.abs(bias).max())
    score = math.ceil((q.shape[3] + 2) * largest)  # scaled, and with its bias, as a sum of terms of size 1
    return Example(
        op("attention", scale=scale, causal=causal, window=window),
        inputs,
        oracle,
        units=2 * 4 + 2,  # e ** x twice, the largest score off, the quotient
        terms=2 * k.shape[1] + 2 * score,
        magnitude=lambda q, k, v, *rest: oracle(q, k, np.abs(v), *rest),
    )


def rope(x: np.ndarray, positions: np.ndarray, inv_freq: np.ndarray, scale: float = 1.0) -> np.ndarray:
    out, half = x.copy(), inv_freq.shape[-1]
    for b, s, h in np.ndindex(*x.shape[:3]):
        own = inv_freq.reshape(-1, half)[b % (inv_freq.size // half)]
        for j in range(half):
            turn = complex(x[b, s, h, j], x[b, s, h, j + half])
            angle = float(positions[b % len(positions), s]) * own[j]
            turn *= scale * complex(math.cos(angle), math.sin(angle))
            out[b, s, h, j], out[b, s, h, j + half] = turn.real, turn.imag
    return out


def relative_bias(query: int, key: int, bidirectional: bool, max_distance: int) -> Callable[..., np.ndarray]:
    """transformers' own bucket function, one distance at a time."""
    from transformers.models.t5.modeling_t5 import T5Attention

    def oracle(table: np.ndarray, past: np.ndarray | None = None) -> np.ndarray:
        past = np.zeros(1, "i4") if past is None else past
        out = np.zeros((len(past), table.shape[1], query, key))
        for b, i, j in np.ndindex(len(past), query, key):
            distance = torch.tensor([[int(j - i - past[b])]])
            bucket = T5Attention._relative_position_bucket(distance, bidirectional, table.shape[0], max_distance)
            out[b, :, i, j] = table[int(bucket)]
        return out

    return oracle


def cache_update(cache: np.ndarray, new: np.ndarray, past: np.ndarray) -> np.ndarray:
    out = cache.copy()
    for b, s in np.ndindex(*new.shape[:2]):
        if past[b] + s < cache.shape[1]:
            out[b, past[b] + s] = new[b, s]
    return out


def alibi(query: int, key: int) -> Callable[..., np.ndarray]:
    def oracle(slopes: np.ndarray, past: np.ndarray | None = None) -> np.ndarray:
        past = np.zeros(1, "i4") if past is None else past
        out = np.zeros((len(past), len(slopes), query, key))
        for b, h, i, j in np.ndindex(*out.shape):
            out[b, h, i, j] = slopes[h] * float(j - int(past[b]) - i)
        return out

    return oracle


def ring_update(
    ring: np.ndarray, new: np.ndarray, past: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A dictionary of positions, a sequence at a time."""
    written, before, size = ring.copy(), np.zeros_like(ring), ring.shape[1]
    for b, p in enumerate(past.tolist()):
        for j in range(size):
            if p - size + j >= 0:
                before[b, j] = ring[b, (p - size + j) % size]
        for i in range(min(int(count[b]), new.shape[1]) if size else 0):
            written[b, (p + i) % size] = new[b, i]
    return written, before


def causal_conv(x: Any, w: Any, b: Any = None, before: Any = None) -> np.ndarray:
    """torch's convolution of channels that are groups, on rows that were put before the first."""
    channels, size = w.shape
    before = np.zeros((len(x), size - 1, channels)) if before is None else before
    rows = torch.from_numpy(np.concatenate([before, x], axis=1)).transpose(1, 2)
    bias = None if b is None else torch.from_numpy(b)
    return F.conv1d(rows, torch.from_numpy(w)[:, None], bias, groups=channels).transpose(1, 2).numpy()


def selective_scan(
    x: Any, dt: Any, a: Any, b: Any, c: Any, d: Any = None, state: Any = None, count: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """The recurrence, a number at a time."""
    h = np.zeros((len(x), *a.shape)) if state is None else state.copy()
    y = np.zeros(x.shape)
    for batch, s, channel in np.ndindex(*x.shape):
        if count is None or s < count[batch]:
            for n in range(a.shape[1]):
                step = dt[batch, s, channel]
                h[batch, channel, n] *= math.exp(step * a[channel, n])
                h[batch, channel, n] += step * b[batch, s, n] * x[batch, s, channel]
        skipped = 0.0 if d is None else d[channel] * x[batch, s, channel]
        y[batch, s, channel] = math.fsum(c[batch, s] * h[batch, channel]) + skipped
    return y, h


def last_row(x: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.stack([x[b, max(n - 1, 0) : max(n, 1)] for b, n in enumerate(count)])


# ------------------------------------------------------------------------------------------------------ control, packed


def branch(name: str, build: Callable[..., dict]) -> Graph:
    """A body of two inputs, f32[3] and i32[]."""
    graph = Module().graph(name)
    graph.set_outputs(build(graph.ops, graph.input("x", Type("f32", (3,))), graph.input("n", Type("i32", ()))))
    return graph


THEN = branch("then", lambda op, x, n: {"y": op.add(x, 1.0), "n": n})
ELSE = branch("else", lambda op, x, n: {"y": op.mul(x, 2.0), "n": op.neg(n)})


def loop_body() -> Graph:
    """(carry h[2], shared s[2], state c[3, 2], slice w[2]) -> h * w + s, and c with h in its row 0."""
    graph = Module().graph("body")
    h, s = graph.input("h", Type("f32", (2,))), graph.input("s", Type("f32", (2,)))
    c, w = graph.input("c", Type("f32", (3, 2))), graph.input("w", Type("f32", (2,)))
    op = graph.ops
    rest = op.slice(c, axis=0, start=1, stop=3)
    graph.set_outputs({"h": op.fma(h, w, s), "c": op.concat(op.unsqueeze(h, axes=(0,)), rest, axis=0)})
    return graph


def repeat(h: np.ndarray, s: np.ndarray, c: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    c = c.copy()
    for i in range(4):
        c[i, 0] = h
        h = h * w[i] + s
    return h, c


def ggml_bytes(x: np.ndarray, name: str) -> np.ndarray:
    return gguf.quants.quantize(x.astype("f4"), gguf.GGMLQuantizationType[name.upper()])


def words(*shape: int) -> np.ndarray:
    """Any 32 bits, of a generator of their own."""
    return np.random.default_rng(1).integers(0, 1 << 32, shape, dtype=np.uint32).view("i4")


def codes(*shape: int) -> np.ndarray:
    """0 … 15."""
    return np.random.default_rng(2).integers(0, 16, shape).astype("u1")


def fields(x: np.ndarray, bits: int, plus: int = 0) -> np.ndarray:
    """Those of each word, one below the other."""
    rows = [[(int(w) & 0xFFFFFFFF) >> at & (1 << bits) - 1 for w in row] for row in x for at in range(0, 32, bits)]
    return (np.array(rows) + plus).astype("u1")


def gptq_bytes(scale: np.ndarray, zero: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Groups of 128: the scale, the zero point, and in byte j the codes of inputs j and j + 64."""
    rows = []
    for r in range(len(code)):
        row = b""
        for g in range(code.shape[1] // 128):
            group = [int(c) for c in code[r, 128 * g : 128 * (g + 1)]]
            row += scale[r, g].tobytes() + bytes([zero[r, g]]) + bytes(group[j] | group[j + 64] << 4 for j in range(64))
        rows.append(np.frombuffer(row, "u1"))
    return np.stack(rows)


def packed(name: str, *shape: int, layout: str = "") -> Packed:
    return Packed.quantize(np, normal(*shape), name).relayout(np, layout)


def floats(x: Any) -> np.ndarray:
    """What an array stands for, in float64."""
    return gguf_floats(x).astype("f8") if isinstance(x, Packed) else x


def gguf_floats(x: Packed) -> np.ndarray:
    """What gguf-py makes of the bytes of a packed array."""
    return gguf.quants.dequantize(x.relayout(np, "").planes["bytes"], gguf.GGMLQuantizationType[x.format.upper()])


def chosen(k: int) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """The k largest numbers of each row and where they stand, by sorting pairs."""

    def oracle(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = [sorted(enumerate(row), key=lambda p: (-p[1], p[0]))[:k] for row in x.reshape(-1, x.shape[-1]).tolist()]
        pairs = np.array(rows).reshape(*x.shape[:-1], k, 2)
        return pairs[..., 1], pairs[..., 0].astype("i4")

    return oracle


def by_expert(x: np.ndarray, w: np.ndarray, chosen: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """The product with each chosen expert's matrix, one after the other."""
    x = np.broadcast_to(x, (*chosen.shape, x.shape[-1]))
    y = np.empty((*chosen.shape, w.shape[1]))
    for at, expert in np.ndenumerate(chosen.astype("i4")):
        expert = min(max(expert, 0), len(w) - 1)
        y[at] = w[expert] @ x[at] + (0 if b is None else b[expert])
    return y


# ----------------------------------------------------------------------------------------------------------- the table

X, W, B = normal(5, 64), normal(7, 64), normal(7)
Q4, Q8 = packed("q4_0", 7, 64), packed("q8_0", 9, 64, layout="planes")
LONG = np.full((2, 4096), 1.01, "f4")  # NumPy's own bf16 mean of it is 0.125
TABLE = normal(10, 4)
OUT_OF_BOUNDS = np.array([[0, 9, 10], [-1, -100, 2**31 - 1]], "i4")
CHOICES = np.array([[0, 3], [3, 3], [1, 0], [99, -1], [2, 0]], "i4")
CACHE, NEW = normal(3, 8, 2, 4), normal(3, 3, 2, 4)
Q, K, V = normal(2, 3, 4, 8), normal(2, 6, 2, 8), normal(2, 6, 2, 5)
PAST, COUNT = np.array([0, 2], "i4"), np.array([3, 5], "i4")
K_BEFORE, V_BEFORE = normal(2, 4, 2, 8), normal(2, 4, 2, 5)
RING, RINGS = normal(4, 3, 2), np.array([0, 2, 7, 30], "i4")
SCANNED = (normal(2, 6, 5), np.abs(normal(2, 6, 5)), -np.abs(normal(5, 3)), normal(2, 6, 3), normal(2, 6, 3))
WIDE = np.array(
    [0.9, -0.9, 1.5, -1.5, 127, 128, -129, 255.4, 300, 7e4, 5e9, -5e9, 1e19, -1e19, 3e38, INF, -INF, NAN], "f4"
)


def reach(*x: np.ndarray) -> np.ndarray:
    """The magnitudes of the operands together."""
    return np.sum(np.broadcast_arrays(*map(np.abs, x)), axis=0)


def layer_norm_terms(x: np.ndarray, w: np.ndarray, b: Any = 0.0) -> np.ndarray:
    """The mean is off by a share of the mean magnitude, the variance by twice that of itself."""
    sigma = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    centred = np.abs(x - x.mean(-1, keepdims=True))
    return (np.abs(x).mean(-1, keepdims=True) + centred) / sigma * np.abs(w) + np.abs(b)


def cast(to: str) -> Callable[..., np.ndarray]:
    """The cast in Python integers: towards zero, saturating, NaN to 0."""
    info = np.iinfo(to)

    def one(x: float) -> int:
        limited = 0.0 if math.isnan(x) else min(max(x, -1e30), 1e30)
        return min(max(int(limited), int(info.min)), int(info.max))

    return lambda x: np.array([one(v) for v in x.ravel().tolist()], info.dtype).reshape(x.shape)


SHORT = {"int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "uint8": "u8", "uint32": "u32", "uint64": "u64"}

ORACLES: dict[str, list[Example]] = {
    # elementwise
    "add": binary("add", torch.add, lambda a, b: wrap(a + b)),
    "sub": binary("sub", torch.sub, lambda a, b: wrap(a - b)),
    "mul": binary("mul", torch.mul, lambda a, b: wrap(a * b)),
    "div": binary("div", torch.div, truncated),
    "mod": [
        Example(op("mod"), (normal(3, 1, 5), normal(4, 5)), by_torch(torch.remainder), magnitude=reach),
        Example(op("mod"), (*INTEGER_PAIRS,), elementwise(lambda a, b: 0 if b == 0 else a % b)),
    ],
    "pow": [
        # by way of e ** (b * log(a)), whose exponent is below 8 here
        Example(op("pow"), (np.abs(normal(3, 5)), normal(3, 1)), by_torch(torch.pow), units=16),
        Example(op("pow"), (normal(9), np.float32([2, 3, -1, 0, 2, 2, 1, -2, 4])), by_torch(torch.pow), units=16),
        Example(op("pow"), (*INTEGER_PAIRS[:, np.abs(INTEGER_PAIRS[1]) < 9],), elementwise(integer_power)),
    ],
    "maximum": binary("maximum", torch.maximum, max),
    "minimum": binary("minimum", torch.minimum, min),
    "equal": binary("equal", torch.eq, lambda a, b: a == b),
    "less": binary("less", torch.lt, lambda a, b: a < b),
    "less_or_equal": binary("less_or_equal", torch.le, lambda a, b: a <= b),
    "logical_and": [Example(op("logical_and"), (truths(4, 1), truths(3)), by_torch(torch.logical_and))],
    "logical_or": [Example(op("logical_or"), (truths(4, 1), truths(3)), by_torch(torch.logical_or))],
    "logical_not": [Example(op("logical_not"), (truths(4, 3),), by_torch(torch.logical_not))],
    "where": [
        Example(op("where"), (truths(4, 1), normal(3), normal(4, 3)), by_torch(torch.where), units=0),
        Example(op("where"), (truths(4), integers(-9, 9, 4), integers(-9, 9, 4)), by_torch(torch.where)),
    ],
    "fma": [
        # a * b + c as exact float64 numbers rounded once: nothing is lost to cancellation
        Example(op("fma"), (normal(4, 1), normal(5), normal(4, 5)), lambda a, b, c: a * b + c, units=0),
        Example(
            op("fma"),
            (np.float32([1 + 2**-12]), np.float32([1 - 2**-12]), np.float32([-1])),
            lambda a, b, c: a * b + c,
            0,
        ),
    ],
    "neg": [*unary("neg", torch.neg, units=0), Example(op("neg"), (INTEGERS,), elementwise(lambda x: wrap(-x)))],
    "abs": [*unary("abs", torch.abs, units=0), Example(op("abs"), (INTEGERS,), elementwise(lambda x: wrap(abs(x))))],
    "sqrt": unary("sqrt", torch.sqrt, units=1),
    "rsqrt": unary("rsqrt", torch.rsqrt, units=2),
    "reciprocal": unary("reciprocal", torch.reciprocal, units=1),
    "exp": unary("exp", torch.exp),
    "log": unary("log", torch.log, positive=True),
    "cos": unary("cos", torch.cos, units=8),
    "sin": unary("sin", torch.sin, units=8),
    "tanh": unary("tanh", torch.tanh, units=8),
    "erf": unary("erf", torch.erf, units=8),
    "sigmoid": unary("sigmoid", torch.sigmoid, units=6),
    "softplus": unary("softplus", F.softplus, units=8),
    "relu": unary("relu", torch.relu, units=0),
    "silu": [Example(op("silu"), (normal(4, 33) * 3,), by_torch(F.silu), units=8)],
    # the tails are a small difference of large terms: the error is that of the terms, at most |x|
    "gelu": [
        Example(op("gelu"), (normal(4, 33) * 3,), by_torch(F.gelu), units=8, magnitude=np.abs),
        Example(
            op("gelu", approximate="tanh"),
            (normal(4, 33),),
            by_torch(lambda x: F.gelu(x, approximate="tanh")),
            units=8,
            magnitude=np.abs,
        ),
    ],
    "isnan": unary("isnan", torch.isnan),
    "cast": [
        *(Example(op("cast", to=SHORT[to]), (WIDE,), cast(to)) for to in SHORT),
        Example(op("cast", to="bf16"), (normal(40),), lambda x: x, units=0),
        Example(op("cast", to="f16"), (np.append(normal(40), np.float32([7e4, -7e4, NAN])),), lambda x: x, units=0),
        Example(op("cast", to="f32"), (INTEGERS,), lambda x: x.astype("f8"), units=0),
        Example(op("cast", to="i8"), (INTEGERS,), elementwise(lambda x: (x + 128) % 256 - 128)),
        Example(op("cast", to="bool"), (SPECIAL,), elementwise(lambda x: x != 0)),
        Example(op("cast", to="i32"), (truths(5),), elementwise(int)),
    ],
    # reductions
    "reduce_sum": [
        sums(op("reduce_sum", axes=(1,)), (LONG,), by_torch(lambda x: x.sum(1, keepdim=True)), 4096),
        sums(op("reduce_sum", axes=(0, 2)), (normal(3, 4, 5),), by_torch(lambda x: x.sum((0, 2), keepdim=True)), 15),
        Example(
            op("reduce_sum", axes=(0, -1), keepdims=False),
            (integers(-9, 9, 3, 4, 5),),
            by_torch(lambda x: x.sum((0, 2)).int()),
        ),
    ],
    "reduce_mean": [
        sums(op("reduce_mean", axes=(-1,)), (LONG,), by_torch(lambda x: x.mean(1, keepdim=True)), 4096),
        sums(
            op("reduce_mean", axes=(0, 2), keepdims=False), (normal(3, 4, 5),), by_torch(lambda x: x.mean((0, 2))), 15
        ),
    ],
    "reduce_max": [
        Example(op("reduce_max", axes=(1,)), (normal(3, 50),), by_torch(lambda x: x.amax(1, keepdim=True)), units=0),
        Example(op("reduce_max", axes=(0,), keepdims=False), (integers(-9, 9, 3, 4),), by_torch(lambda x: x.amax(0))),
    ],
    "cumulative_sum": [
        sums(op("cumulative_sum", axis=-1), (np.full((2, 400), 1.01, "f4"),), by_torch(lambda x: x.cumsum(-1)), 400),
        sums(op("cumulative_sum", axis=0), (normal(7, 3),), by_torch(lambda x: x.cumsum(0)), 7),
        Example(op("cumulative_sum", axis=0), (integers(-9, 9, 3, 4),), by_torch(lambda x: x.cumsum(0).int())),
    ],
    # e ** x in the numerator and in the total; x - max(x) is off by a share of itself: log(n) / 2 units of the total
    "softmax": [
        Example(op("softmax"), (normal(4, 300) * 5,), by_torch(lambda x: x.softmax(-1)), units=2 * 4 + 4, terms=300),
        Example(op("softmax"), (normal(4, 10),), by_torch(lambda x: x.softmax(-1)), units=2 * 4 + 2, terms=10),
        Example(op("softmax", axis=0), (np.float32([[1e4, 5], [-1e4, 5]]),), by_torch(lambda x: x.softmax(0))),
    ],
    # shapes
    "reshape": [
        Example(op("reshape", shape=(2, -1)), (normal(4, 3),), by_torch(lambda x: x.reshape(2, 6)), units=0),
        Example(op("reshape", shape=(3, 4, 5)), (normal(2, 6, 5),), by_torch(lambda x: x.reshape(3, 4, 5)), units=0),
        Example(op("reshape", shape=(7, 1, -1)), (Q4,), lambda x: {"bytes": x.planes["bytes"].reshape(7, 1, 36)}),
        Example(
            op("reshape", shape=(-1, 3, 64)),
            (Q8,),
            lambda x: {k: p.reshape(3, 3, *p.shape[1:]) for k, p in x.planes.items()},
        ),
        Example(
            op("reshape", shape=(6, 32)),
            (packed("q4_0", 2, 3, 32),),
            lambda x: {"bytes": x.planes["bytes"].reshape(6, -1)},
        ),
    ],
    "transpose": [
        Example(op("transpose", perm=(2, 0, 1)), (normal(2, 3, 4),), by_torch(lambda x: x.permute(2, 0, 1)), units=0),
        Example(
            op("transpose", perm=(1, 0, 2)),
            (packed("q8_0", 2, 3, 64, layout="planes"),),
            lambda x: {k: p.transpose(1, 0, 2) for k, p in x.planes.items()},
        ),
    ],
    "squeeze": [
        Example(op("squeeze", axes=(0, 2)), (normal(1, 3, 1, 4),), by_torch(lambda x: x.reshape(3, 4)), units=0),
        Example(op("squeeze", axes=(1,)), (packed("q4_0", 3, 1, 32),), lambda x: {"bytes": x.planes["bytes"][:, 0]}),
    ],
    "unsqueeze": [
        Example(op("unsqueeze", axes=(0, 3)), (normal(3, 4),), by_torch(lambda x: x.reshape(1, 3, 4, 1)), units=0),
        Example(op("unsqueeze", axes=(1,)), (Q8,), lambda x: {k: p[:, None] for k, p in x.planes.items()}),
    ],
    "broadcast_to": [
        Example(op("broadcast_to", shape=(2, 3, 4)), (normal(3, 1),), by_torch(lambda x: x.expand(2, 3, 4)), units=0)
    ],
    "concat": [
        Example(
            op("concat", axis=-1),
            (normal(3, 4), normal(3, 1), normal(3, 2)),
            by_torch(lambda *x: torch.cat(x, -1)),
            units=0,
        ),
        Example(
            op("concat", axis=0), (Q4, Q4), lambda a, b: {"bytes": np.vstack([a.planes["bytes"], b.planes["bytes"]])}
        ),
        Example(op("concat", axis=0), (Q8, Q8), lambda a, b: {k: np.concatenate([p, p]) for k, p in a.planes.items()}),
    ],
    "split": [
        Example(
            op("split", axis=1, sizes=(2, 0, 3)), (normal(2, 5),), lambda x: (x[:, :2], x[:, 2:2], x[:, 2:]), units=0
        ),
        Example(
            op("split", axis=0, sizes=(2, 5)),
            (Q4,),
            lambda x: ({"bytes": x.planes["bytes"][:2]}, {"bytes": x.planes["bytes"][2:]}),
        ),
    ],
    "slice": [
        Example(op("slice", axis=-1, start=1, stop=4), (normal(2, 5),), lambda x: x[:, 1:4], units=0),
        Example(op("slice", axis=0, start=1, stop=3), (normal(3, 5),), lambda x: x[1:], units=0),
        Example(op("slice", axis=0, start=2, stop=4), (Q8,), lambda x: {k: p[2:4] for k, p in x.planes.items()}),
    ],
    "stack": [
        Example(op("stack"), (normal(3, 4), normal(3, 4)), by_torch(lambda *x: torch.stack(x)), units=0),
        Example(op("stack"), (Q8, Q8), lambda a, b: {k: np.stack([p, p]) for k, p in a.planes.items()}),
    ],
    "index": [
        Example(op("index", index=2), (normal(3, 4),), lambda x: x[2], units=0),
        Example(op("index", index=1), (packed("q4_0", 2, 3, 32),), lambda x: {"bytes": x.planes["bytes"][1]}),
    ],
    "iota": [
        Example(op("iota", size=5), (), lambda: np.arange(5)),
        Example(op("iota", size=200, dtype="bf16"), (), lambda: np.arange(200.0), units=0),
    ],
    "gather": [
        Example(
            op("gather", axis=1), (normal(3, 10), OUT_OF_BOUNDS), lambda x, i: x[:, [[0, 9, 9], [9, 0, 9]]], units=0
        ),
        Example(
            op("gather", axis=0),
            (normal(200), np.array([-1, -128, 127], "i1")),
            lambda x, i: x[[199, 72, 127]],
            units=0,
        ),
        Example(
            op("gather", axis=0),
            (Q8, np.array([[6, 0], [-1, 99]], "i4")),
            lambda x, i: {k: p[[[6, 0], [8, 8]]] for k, p in x.planes.items()},
        ),
    ],
    "gather_elements": [
        Example(
            op("gather_elements", axis=1),
            (normal(3, 10), np.array([[0, 3], [-1, 9], [12, -20]])),
            lambda x, i: x[[[0, 0], [1, 1], [2, 2]], [[0, 3], [9, 9], [9, 0]]],
            units=0,
        ),
        Example(op("gather_elements", axis=0), (normal(3, 4), np.array([[2, 1]])), lambda x, i: x[[[2, 1]], [[0, 1]]]),
    ],
    "gather_nd": [
        Example(
            op("gather_nd"),
            (normal(3, 10, 2), np.array([[[0, 3], [-1, 9]], [[7, -20], [1, 1]]])),
            lambda x, i: x[[[0, 2], [2, 1]], [[3, 9], [0, 1]]],
            units=0,
        ),
    ],
    # matrix products
    "matmul": [
        sums(op("matmul"), (normal(2, 1, 5, 64), normal(3, 64, 4)), by_torch(torch.matmul), 64),
        sums(op("matmul"), (LONG, LONG.T.copy()), by_torch(torch.matmul), 4096),
    ],
    "linear": [
        sums(op("linear"), (X, W, B), by_torch(F.linear), 65),
        sums(op("linear", to="f32"), (X, W), by_torch(F.linear), 64),
        sums(op("linear"), (X, Q4), by_torch(F.linear), 64),
        sums(op("linear"), (X, Q8), by_torch(F.linear), 64),
    ],
    "embedding": [
        Example(op("embedding"), (OUT_OF_BOUNDS, TABLE), lambda i, w: w[[[0, 9, 9], [9, 0, 9]]], units=0),
        Example(op("embedding"), (np.array([6, 0], "i4"), Q4), lambda i, w: gguf_floats(w)[[6, 0]], units=0),
        Example(op("embedding", to="bf16"), (np.array([[8]], "i4"), Q8), lambda i, w: gguf_floats(w)[[[8]]], units=0),
    ],
    # experts
    "top_k": [
        Example(op("top_k", k=3), (normal(2, 5, 8),), chosen(3)),
        Example(op("top_k", k=4), (np.float32([[1, 3, 3, -2, 3], [0, 0, -0.0, 0, 0]]),), chosen(4)),
        Example(op("top_k", k=2), (integers(-9, 9, 5),), chosen(2)),
    ],
    "expert_linear": [
        sums(op("expert_linear"), (normal(2, 3, 1, 64), normal(4, 5, 64), integers(0, 4, 2, 3, 2)), by_expert, 64),
        sums(op("expert_linear"), (normal(5, 2, 64), normal(4, 3, 64), CHOICES), by_expert, 64),
        sums(op("expert_linear"), (normal(5, 2, 64), packed("q4_0", 4, 3, 64), CHOICES), by_expert, 64),
        sums(
            op("expert_linear"), (normal(5, 1, 64), packed("q8_0", 4, 3, 64, layout="planes"), CHOICES), by_expert, 64
        ),
        sums(op("expert_linear"), (normal(5, 1, 64), packed("q8_0", 4, 3, 64), CHOICES, normal(4, 3)), by_expert, 65),
    ],
    # normalisation
    # half of the error of the mean of squares, which has no signs, and five operations
    "rms_norm": [
        Example(
            op("rms_norm", eps=1e-5),
            (x, w),
            by_torch(lambda x, w: F.rms_norm(x, x.shape[-1:], w, 1e-5)),
            terms=x.shape[-1] // 2,
        )
        for x, w in ((X, W[0]), (LONG, LONG[0]))
    ]
    + [
        Example(
            op("rms_norm", eps=1e-5, offset=1.0),
            (X, W[0] / 256),  # in bf16, 1 + w would lose all of w
            by_torch(lambda x, w: F.rms_norm(x, (64,), 1 + w, 1e-5)),
            terms=X.shape[-1] // 2,
        ),
    ],
    "layer_norm": [
        Example(
            op("layer_norm", eps=1e-5),
            (X, W[0], *more),
            by_torch(lambda x, w, b=None: F.layer_norm(x, (64,), w, b, 1e-5)),
            terms=64,
            magnitude=layer_norm_terms,
        )
        for more in ((W[1],), ())
    ],
    # attention
    "positions": [
        Example(op("positions"), (integers(0, 9, 2, 4),), lambda ids: np.array([[0, 1, 2, 3]] * 2)),
        Example(op("positions"), (integers(0, 9, 2, 3), PAST), lambda ids, past: np.array([[0, 1, 2], [2, 3, 4]])),
    ],
    # an angle below 50 is off by 25 units at most, and so are its cosine and sine
    "rope": [
        Example(
            op("rope"),
            (normal(2, 3, 2, 8), integers(0, 50, 2, 3), np.float32([1, 0.1, 0.01])),
            rope,
            units=25 + 8,
            magnitude=lambda x, *_: 2 * np.abs(x).max(),
            dtypes=("f32",),
        ),
        Example(
            op("rope"),
            (normal(2, 3, 2, 8), integers(0, 50, 1, 3), np.float32([1, 0.5, 0.25, 0.125])),
            rope,
            units=8,
            magnitude=lambda x, *_: 2 * np.abs(x).max(),
        ),
        Example(
            op("rope", scale=1.5),
            (normal(2, 3, 2, 8), integers(0, 50, 1, 3), np.float32([[1, 0.5, 0.25], [0.5, 0.25, 0.125]])),
            lambda *x: rope(*x, scale=1.5),
            units=8,
            magnitude=lambda x, *_: 3 * np.abs(x).max(),
        ),
    ],
    "attention": [
        attended(0.3, Q, K, V),
        attended(0.3, Q, K, V, PAST, COUNT, causal=True),
        attended(0.3, Q, K, V, PAST, causal=True, window=2),
        attended(0.3, Q, K, V, None, None, normal(1, 4, 1, 6)),
        attended(0.3, Q, K, V, None, np.array([0, 6], "i4"), truths(2, 1, 3, 6)),
        Example(
            op("attention", scale=3.0, causal=True, softcap=4.0),
            (Q, K, V, PAST, None, normal(1, 4, 1, 6)),
            attention(3.0, True, softcap=4.0),
            units=32,
        ),
        *(
            Example(
                op("attention", scale=0.3, **attributes),
                (Q, K[:, :3], V[:, :3], np.array(past, "i4"), count, bias, K_BEFORE[:, :rows], V_BEFORE[:, :rows]),
                attention_with_rows_before(scale=0.3, **attributes),
                units=16,
            )
            for attributes, past, count, bias, rows in (
                ({"causal": True, "window": 3}, [0, 2], None, None, 4),
                ({"causal": True, "window": 5}, [9, 3], np.array([2, 0], "i4"), truths(2, 4, 3, 1), 4),
                ({"causal": True}, [9, 1], np.array([3, 1], "i4"), None, 2),
                ({"softcap": 0.5}, [9, 1], np.array([3, 1], "i4"), normal(1, 4, 3, 1), 4),
                ({"causal": True}, [5, 0], None, None, 0),
            )
        ),
        *(
            Example(op("attention", scale=0.3, **attributes), (Q, *given, sinks), oracle(scale=0.3, **attributes), 32)
            for sinks in (np.float32([1.5, -60, 80, 0]),)
            for attributes, given, oracle in (
                ({}, (K, V, None, np.array([0, 6], "i4"), None, None, None), attention),
                ({"causal": True, "softcap": 0.5}, (K, V, PAST, None, normal(1, 4, 1, 6), None, None), attention),
                (
                    {"causal": True, "window": 3},
                    (K[:, :3], V[:, :3], np.array([0, 2], "i4"), None, None, K_BEFORE, V_BEFORE),
                    attention_with_rows_before,
                ),
            )
        ),
    ],
    "relative_bias": [
        Example(
            op("relative_bias", query=3, key=40, bidirectional=True, max_distance=30),
            (normal(8, 2),),
            relative_bias(3, 40, True, 30),
            0,
        ),
        Example(
            op("relative_bias", query=2, key=40, bidirectional=False, max_distance=30),
            (normal(8, 2), np.array([5, 38], "i4")),
            relative_bias(2, 40, False, 30),
            0,
        ),
    ],
    "alibi": [
        Example(op("alibi", query=3, key=5), (np.float32([0.25, 0.0625]),), alibi(3, 5), units=0),
        Example(op("alibi", query=2, key=40), (normal(3), np.array([5, 38], "i4")), alibi(2, 40), units=1),
    ],
    "ring_update": [
        Example(op("ring_update"), (RING, normal(4, new, 2), RINGS, np.array(count, "i4")), ring_update, units=0)
        for new, count in ((1, [1, 0, 1, 1]), (3, [3, 2, 1, 0]), (8, [8, 7, 4, 2]), (0, [0, 0, 0, 0]))
    ]
    + [
        Example(op("ring_update"), (normal(4, 3), normal(4, 2), RINGS, COUNT[[0, 0, 1, 1]]), ring_update, units=0),
        Example(op("ring_update"), (normal(4, 0, 2), normal(4, 2, 2), RINGS, RINGS), ring_update, units=0),
        Example(op("ring_update"), (truths(4, 1, 2), truths(4, 5, 2), RINGS, RINGS), ring_update),
    ],
    "cache_update": [
        Example(op("cache_update"), (CACHE, NEW, np.array([0, 6, 8], "i4")), cache_update, units=0),
        Example(op("cache_update"), (CACHE, NEW, np.array([5, 7, 1000], "i4")), cache_update, units=0),
    ],
    "last_row": [Example(op("last_row"), (normal(3, 4, 5), np.array([4, 1, 0], "i4")), last_row, units=0)],
    # recurrences
    "causal_conv": [
        Example(op("causal_conv"), (normal(2, 7, 5), normal(5, 4)), causal_conv, units=8),
        Example(op("causal_conv"), (normal(2, 2, 5), normal(5, 4), normal(5), normal(2, 3, 5)), causal_conv, units=8),
        Example(op("causal_conv"), (normal(2, 3, 5), normal(5, 1), None, normal(2, 0, 5)), causal_conv, units=8),
    ],
    "selective_scan": [
        Example(op("selective_scan"), SCANNED, selective_scan, units=16),
        Example(
            op("selective_scan"),
            (*SCANNED, normal(5), normal(2, 5, 3), np.array([6, 2], "i4")),
            selective_scan,
            units=16,
        ),
        Example(op("selective_scan"), (*SCANNED, None, None, np.array([0, 9], "i4")), selective_scan, units=16),
    ],
    # storage
    "quantize": [
        Example(op("quantize", format="q4_0"), (X,), lambda x: {"bytes": ggml_bytes(x, "q4_0")}, traced=False),
        Example(op("quantize", format="q8_0"), (X,), lambda x: {"bytes": ggml_bytes(x, "q8_0")}, traced=False),
        Example(op("quantize", format="int8_32"), (X,)),
    ],
    "dequantize": [
        Example(op("dequantize"), (Q4,), gguf_floats, units=0),
        Example(op("dequantize", to="bf16"), (Q8,), gguf_floats, units=0),
    ],
    "unpack_bits": [
        Example(op("unpack_bits", bits=4, axis=0, plus=1), (words(3, 5),), lambda x: fields(x, 4, 1)),
        Example(op("unpack_bits", bits=8, axis=-1), (words(2, 3),), lambda x: fields(x.T, 8).T),
    ],
    "pack_parts": [
        Example(
            op("pack_parts", format="int4_128"),
            (np.array([[0.5, 0.25], [2, -1]], "f2"), codes(2, 2), codes(2, 256)),
            lambda scale, zero, code: {"bytes": gptq_bytes(scale.astype("f2"), zero, code)},
            dtypes=("f16",),
        ),
    ],
    "relayout": [
        Example(
            op("relayout", layout="planes"),
            (Q4,),
            lambda x: {
                "scale": x.planes["bytes"].reshape(7, 2, 18)[..., :2].copy().view("f2").reshape(7, 2),
                "code": x.planes["bytes"].reshape(7, 2, 18)[..., 2:].reshape(7, 32),
            },
        ),
    ],
    # leaves and control
    "constant": [
        Example(Constant(value=Literal(normal(2, 3))), (), None),
        Example(Constant(value=Literal(np.array(True))), (), lambda: np.array(True)),
    ],
    "if": [
        Example(
            op("if"),
            (np.array(True), normal(3), np.array(5, "i4")),
            lambda c, x, n: (x + 1, n),
            dtypes=("f32",),
            bodies=(THEN, ELSE),
        ),
        Example(
            op("if"),
            (np.array([False]), normal(3), np.array(5, "i4")),
            lambda c, x, n: (x * 2, -n),
            dtypes=("f32",),
            bodies=(THEN, ELSE),
        ),
    ],
    "repeat": [
        Example(
            op("repeat", count=4, carries=1, shared=1, states=1),
            (normal(2), normal(2), normal(4, 3, 2), normal(4, 2)),
            repeat,
            dtypes=("f32",),
            bodies=(loop_body(),),
        )
    ],
}


def ours() -> list[str]:
    """The ops that `burnish.ir` defines."""
    return sorted(name for name, cls in OPS.items() if cls.__module__.startswith("burnish.ir."))


def without_oracle() -> list[str]:
    """Registered ops that no oracle speaks for: must be none."""
    return [name for name in ours() if not ORACLES.get(name) and name not in STRUCTURE]


def family(module: str) -> list[str]:
    """The ops of one file, for the test file of that name."""
    return [name for name in ours() if OPS[name].__module__ == f"burnish.ir.{module}" and name not in STRUCTURE]
