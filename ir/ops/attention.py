"""Attention, positions and caches: the one form that every frontend reaches.

Axes: B sequences, S new tokens, T keys (S of them, or the capacity C of a cache), H heads, K key heads, D head size.
Batches are right-padded. `past[b]` tokens of sequence b are in the cache already; `count[b]` tokens are real.
"""

from __future__ import annotations

import math
from functools import lru_cache, reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.ir.dims import Dim, symbols_of
from burnish.ir.guards import assume_at_most, assume_equal, assume_sizes, broadcast
from burnish.ir.op import Array, Arrays, Axes, Op
from burnish.ir.signature import COUNT
from burnish.ir.state import INDEPENDENT, Independent, Refused, Steps
from burnish.ir.types import Type, require

if TYPE_CHECKING:
    from burnish.ir.builder import Ops
    from burnish.ir.graph import Node, Value


class Positions(Op):
    """past[b] + i for token i: ids[B, S], past[B] -> i32[B, S]"""

    kind = "memory"
    widen = False
    reproducible = True

    def infer(self, ids: Type, past: Type | None = None) -> Type:
        require(ids.rank == 2, f"positions: {ids} is not a batch of tokens")
        require(past is None or _is_count(past), f"positions: {past} are not counts")
        if past is not None:
            assume_equal(ids.shape[0], past.shape[0], f"positions({ids}, {past})")
        return Type("i32", ids.shape)

    def along(self, ids: Type, *past: Type | None) -> tuple[Axes, ...]:
        return (0, None), *(() if t is None else (0,) for t in past)  # a position depends on where it stands

    def stateful(self, op: Ops, node: Node, state: Steps) -> Value | Independent | Refused:
        """Behind those that came before."""
        if not state.carries_tokens(node["ids"]):
            return INDEPENDENT
        return Refused("it has a past already") if node.get("past") is not None else op.again(node, past=state.past)

    def eval(self, xp: Arrays, ids: Array, past: Array | None = None) -> Array:
        steps = xp.broadcast_to(xp.arange(ids.shape[1], dtype="int32"), ids.shape)
        return steps if past is None else steps + past[:, None]


class Rope(Op):
    """Rotate pairs (x[j], x[j + R/2]) of each head by positions * inv_freq[j] (arXiv:2104.09864).

    x[B, S, H, D], positions i32[B, S], inv_freq f32[R/2] or, for each sequence, f32[B, R/2]; R <= D, the rest of the
    head stays. `interleaved` pairs are (x[2j], x[2j + 1]). What is rotated is multiplied by `scale`.
    """

    interleaved: bool = False
    scale: float = 1.0

    def infer(self, x: Type, positions: Type, inv_freq: Type) -> Type:
        require(x.rank == 4 and x.is_float, f"rope: {x} is not [B, S, H, D]")
        require(positions.rank == 2 and positions.is_integer, f"rope: {positions} are not positions")
        require(inv_freq.rank in (1, 2) and inv_freq.is_float, f"rope: {inv_freq} are not frequencies")
        half, size = inv_freq.shape[-1], x.shape[3]
        good = isinstance(half, int) and isinstance(size, int) and 2 * half <= size
        require(good, f"rope: {inv_freq} has more frequencies than {x} has pairs")
        where = f"rope({x}, {positions}, {inv_freq})"
        if inv_freq.rank == 2:
            require(_fit(broadcast(x.shape[:1], inv_freq.shape[:1], where=where), x.shape[:1]), where)
        require(_fit(broadcast(x.shape[:2], positions.shape, where=where), x.shape[:2]), where)
        return x

    def along(self, x: Type, positions: Type, inv_freq: Type) -> tuple[Axes, ...]:
        return (0, 1, 2, None), (0, 1), (0, None)[-inv_freq.rank :]

    def eval(self, xp: Arrays, x: Array, positions: Array, inv_freq: Array) -> Array:
        half = inv_freq.shape[-1]
        angles = positions.astype("float32")[..., None, None] * inv_freq.reshape(-1, 1, 1, half)
        cos, sin = xp.cos(angles), xp.sin(angles)
        if self.scale != 1:
            cos, sin = cos * cos.dtype.type(self.scale), sin * sin.dtype.type(self.scale)
        rotated, rest = x[..., : 2 * half], x[..., 2 * half :]
        if self.interleaved:
            left, right = rotated[..., 0::2], rotated[..., 1::2]
            pairs = xp.stack([left * cos - right * sin, right * cos + left * sin], axis=-1)
            return xp.concatenate([pairs.reshape(rotated.shape), rest], axis=-1)
        left, right = rotated[..., :half], rotated[..., half:]
        return xp.concatenate([left * cos - right * sin, right * cos + left * sin, rest], axis=-1)


class Attention(Op):
    """softmax(scale * q kᵀ + bias, over the visible keys) v -> [B, S, H, E].

    q[B, S, H, D], k[B, T, K, D], v[B, T, K, E], H a multiple of K; bias broadcasts to [B, H, S, T], a float one is
    added, a boolean one says what is visible. Key j is visible to token i iff it is a real token (j < count[b]) and,
    if `causal`, j <= past[b] + i and, with a `window`, j > past[b] + i - window; one that is not causal reaches as far
    ahead, j < i + window. A token that sees no key gets zeros, or with no_keys="nan" what a softmax of nothing is.
    With a `softcap`, scores are softcap * tanh(scale * q kᵀ / softcap) before the bias (arXiv:2408.00118).

    k_before[B, R, K, D] and v_before[B, R, K, E] stand just before k and v: row j of them at position past[b] - R + j,
    hidden where that is negative, and row j of k and v at past[b] + j, real iff j < count[b].

    sinks[H] are the scores of one more key of each head, which every token sees, and whose value is zero (gpt-oss).
    """

    scale: float
    causal: bool = False
    window: int = 0
    softcap: float = 0.0
    no_keys: str = "zero"
    kind = "matmul"

    def infer(
        self,
        q: Type,
        k: Type,
        v: Type,
        past: Type | None = None,
        count: Type | None = None,
        bias: Type | None = None,
        k_before: Type | None = None,
        v_before: Type | None = None,
        sinks: Type | None = None,
    ) -> Type:
        require(q.rank == k.rank == v.rank == 4, f"attention: {q}, {k}, {v} are not [B, S, H, D]")
        require(q.is_float and q.dtype == k.dtype == v.dtype, f"attention: {q}, {k}, {v} differ in element type")
        require(q.shape[3] == k.shape[3], f"attention: the heads of {q} and {k} differ in size")
        require(k.shape[2] == v.shape[2], f"attention: {k} and {v} differ in heads")
        heads, groups = q.shape[2], k.shape[2]
        good = isinstance(heads, int) and isinstance(groups, int) and groups > 0 and heads % groups == 0
        require(good, f"attention: {heads} heads do not share {groups} key heads")
        require(self.window >= 0, f"attention: a window of {self.window} is negative")
        require(self.causal or not self.window or past is None, "attention: a window that is not causal has no past")
        require(self.softcap >= 0, f"attention: a softcap of {self.softcap:g} is negative")
        require(self.no_keys in ("zero", "nan"), f"attention: no_keys is zero or nan, not {self.no_keys!r}")
        require(past is None or _is_count(past), f"attention: {past} are not counts")
        require(count is None or _is_count(count), f"attention: {count} are not counts")
        where = f"attention({q}, {k}, {v})"
        assume_equal(k.shape[1], v.shape[1], where)
        for other in (k, v, past, count):
            if other is not None:
                assume_equal(q.shape[0], other.shape[0], where)
        if bias is not None:
            require(bias.is_float or bias.dtype == "bool", f"attention: {bias} is neither a float bias nor a mask")
            full = (q.shape[0], heads, q.shape[1], k.shape[1])
            shape = broadcast(full, bias.shape, where=f"{where}, bias {bias}")
            require(_fit(shape, full), f"attention: bias {bias} does not broadcast to the scores of {q} and {k}")
        require((k_before is None) == (v_before is None), "attention: k_before and v_before come together")
        if k_before is not None and v_before is not None:
            require(past is not None, "attention: what stands before needs past")
            require(bias is None or bias.shape[-1:] in ((), (1,)), f"attention: {bias} varies along keys before")
            for before, x in ((k_before, k), (v_before, v)):
                fits = before.dtype == x.dtype and before.rank == 4 and before.shape[2:] == x.shape[2:]
                require(fits, f"attention: {before} does not stand before {x}")
                assume_equal(q.shape[0], before.shape[0], where)
            assume_equal(k_before.shape[1], v_before.shape[1], where)
        fits = sinks is None or (sinks.is_float and sinks.shape == (heads,))
        require(fits, f"attention: sinks {sinks} are not one of each of {heads} heads")
        return q.with_shape((*q.shape[:3], v.shape[3]))

    def stateful(self, op: Ops, node: Node, state: Steps) -> Value | Independent | Refused:
        """Keys and values of earlier tokens come from a state: all rows, or a ring of those within the window.

        No `count` is needed: padding on the right is behind every real token already.
        """
        q, k, v, count = node["q"], node["k"], node["v"], node.get("count")
        if node.get("past") is not None:
            return Refused("it has a past already")
        if not state.carries_tokens(k) and not state.carries_tokens(v):
            if count is not None and count.role == COUNT:
                return Refused("its keys are no tokens, but its count is that of the tokens")
            return op.again(node, past=state.past) if self.causal and state.carries_tokens(q) else NotImplemented
        if not state.carries_tokens(q):
            return Refused(f"it mixes the tokens of its operand k, {k.type}")
        if not self.causal:
            return Refused("it attends to tokens that follow")
        if count is not None and count.role != COUNT:
            return Refused("its count is not that of the tokens")
        if not self.window:
            return op.again(node, k=state.rows("k", k), v=state.rows("v", v), past=state.past, count=None)
        if self.window == 1:
            return op.again(node, count=None) if count is not None else INDEPENDENT  # a token sees itself alone
        before = {f"{n}_before": state.before(n, x, self.window - 1) for n, x in (("k", k), ("v", v))}
        return op.again(node, past=state.past, count=None, **before)

    def along(self, q: Type, k: Type, v: Type, *others: Type | None) -> tuple[Axes, ...]:
        """Sequences; rows of q too, where it does not matter which they are. (Keys may have fewer heads.)"""
        row = None if self.causal or self.window else 1

        def axes(name: str, t: Type) -> Axes:
            if name == "bias":
                return (0, None, row, None)[4 - t.rank :]  # [B, H, S, T], aligned at the end
            return (None,) if name == "sinks" else (0, *(None,) * (t.rank - 1))

        rest = [() if t is None else axes(self.operand(i), t) for i, t in enumerate(others, 3)]
        return (0, row, None, None), (0, None, None, None), (0, None, None, None), *rest

    def eval(
        self,
        xp: Arrays,
        q: Array,
        k: Array,
        v: Array,
        past: Array | None = None,
        count: Array | None = None,
        bias: Array | None = None,
        k_before: Array | None = None,
        v_before: Array | None = None,
        sinks: Array | None = None,
    ) -> Array:
        before = None
        if k_before is not None:
            before = k_before.shape[1]
            k, v = xp.concatenate([k_before, k], axis=1), xp.concatenate([v_before, v], axis=1)
        b, s, h, d = q.shape
        t, groups = k.shape[1:3]
        heads = q.reshape(b, s, groups, h // groups, d).transpose(0, 2, 3, 1, 4).reshape(b, groups, h // groups * s, d)
        scores = xp.matmul(heads, k.transpose(0, 2, 3, 1)).reshape(b, h, s, t)
        p = self.weights(xp, scores, past, count, bias, before, sinks).reshape(b, groups, h // groups * s, t)
        y = xp.matmul(p, v.transpose(0, 2, 1, 3)).reshape(b, groups, h // groups, s, v.shape[3])
        return y.transpose(0, 3, 1, 2, 4).reshape(b, s, h, v.shape[3])

    def weights(
        self,
        xp: Arrays,
        scores: Array,
        past: Array | None,
        count: Array | None,
        bias: Array | None,
        before: int | None = None,
        sinks: Array | None = None,
    ) -> Array:
        """How much of each value a token gets, [B, H, S, T], from the scores q kᵀ of that shape.

        The first `before` of the T keys are those of `k_before`, if there are such.
        """
        scores = scores * scores.dtype.type(self.scale)
        if self.softcap:
            cap = scores.dtype.type(self.softcap)
            scores = xp.tanh(scores / cap) * cap
        s, t = scores.shape[2:]
        visible = self.visible(xp, s, t, past, count, before)
        if bias is not None and bias.dtype == bool:
            visible = bias if visible is None else visible & bias
        elif bias is not None:
            scores = scores + bias
        if visible is not None:
            scores = xp.where(visible, scores, -xp.inf)
        top = xp.max(scores, axis=-1, keepdims=True, initial=-xp.inf)  # of no keys too
        if sinks is not None:
            sinks = sinks.astype(scores.dtype)[:, None, None]
            top = xp.maximum(top, sinks)
        top = xp.where(top == -xp.inf, 0, top)
        e = xp.exp(scores - top)
        total = xp.sum(e, axis=-1, keepdims=True)
        total = total if sinks is None else total + xp.exp(sinks - top)
        return e / (total if self.no_keys == "nan" else xp.where(total == 0, 1, total))

    def visible(
        self, xp: Arrays, s: int, t: int, past: Array | None, count: Array | None, before: int | None
    ) -> Array | None:
        """bool[B or 1, 1, S, T], or None where everything is."""
        row, key = xp.arange(s, dtype="int32")[:, None], xp.arange(t, dtype="int32")
        shown = []
        if before is not None and past is not None:
            key = key - before  # counted from past[b], as the tokens are below
            shown.append((key >= -past[:, None])[:, None, None])
            past = None
        if self.causal:
            at = row[None] if past is None else row[None] + past[:, None, None]
            shown.append((key <= at)[:, None])
            if self.window:
                shown.append((key > at - self.window)[:, None])
        elif self.window:
            shown.append((abs(row - key) < self.window)[None, None])
        if count is not None:
            shown.append((key < count[:, None])[:, None, None])
        return reduce(and_, shown) if shown else None


class RelativeBias(Op):
    """T5's bias by distance: table[buckets, H] -> [B or 1, H, query, key] (arXiv:1910.10683).

    Query i stands at past[b] + i. Half of the buckets are exact distances, the others grow to `max_distance`.
    """

    query: Dim
    key: Dim
    bidirectional: bool
    max_distance: int = 128
    kind = "memory"

    def infer(self, table: Type, past: Type | None = None) -> Type:
        require(table.rank == 2 and table.is_float, f"relative_bias: {table} is not [buckets, heads]")
        least = 4 if self.bidirectional else 2
        good = isinstance(table.shape[0], int) and table.shape[0] >= least and self.max_distance > table.shape[0] // 2
        require(good, f"relative_bias: {table} has not the buckets for a distance of {self.max_distance}")
        require(past is None or _is_count(past), f"relative_bias: {past} are not counts")
        assume_sizes((self.query, self.key), "relative_bias")
        return Type(table.dtype, (1 if past is None else past.shape[0], table.shape[1], self.query, self.key))

    def stateful(self, op: Ops, node: Node, state: Steps) -> Value | Independent | Refused:
        """Queries stand behind the past, keys are the rows of a state."""
        return _by_distance(self, op, node, state)

    def eval(self, xp: Arrays, table: Array, past: Array | None = None) -> Array:
        distance = _distances(xp, self.query, self.key, past)
        buckets = table.shape[0] // (2 if self.bidirectional else 1)
        lookup = xp.asarray(buckets_by_distance(buckets, self.max_distance))
        before = xp.abs(distance) if self.bidirectional else -xp.minimum(distance, 0)
        bucket = xp.take(lookup, xp.minimum(before, self.max_distance))
        if self.bidirectional:
            bucket = bucket + xp.where(distance > 0, buckets, 0)
        return xp.moveaxis(xp.take(table, bucket, axis=0), -1, 1)


def _distances(xp: Arrays, query: Dim, key: Dim, past: Array | None) -> Array:
    """key - query: i32[B or 1, query, key]"""
    at = xp.arange(query, dtype="int32")[None, :, None]
    return xp.arange(key, dtype="int32") - (at if past is None else at + past[:, None, None])


@lru_cache(maxsize=64)
def buckets_by_distance(buckets: int, max_distance: int) -> np.ndarray:
    """The bucket of each distance 0..max_distance; each step rounds to f32, as T5's own code does."""
    f32, exact = np.float32, buckets // 2
    n = np.arange(max_distance + 1)
    ratio = f32(np.log(np.maximum(n, 1).astype("f4") / f32(exact), dtype="f8"))
    scaled = ratio / f32(math.log(max_distance / exact)) * f32(buckets - exact)
    return np.where(n < exact, n, np.minimum(exact + scaled.astype("i4"), buckets - 1)).astype("i4")


class Alibi(Op):
    """slopes[h] * (key - query): slopes[H] -> f32[B or 1, H, query, key] (arXiv:2108.12409).

    Query i stands at past[b] + i.
    """

    query: Dim
    key: Dim

    def infer(self, slopes: Type, past: Type | None = None) -> Type:
        require(slopes.rank == 1 and slopes.is_float, f"alibi: {slopes} are not slopes")
        require(past is None or _is_count(past), f"alibi: {past} are not counts")
        return Type("f32", (1 if past is None else past.shape[0], slopes.shape[0], self.query, self.key))

    def stateful(self, op: Ops, node: Node, state: Steps) -> Value | Independent | Refused:
        """Queries stand behind the past, keys are the rows of a state."""
        return _by_distance(self, op, node, state)

    def eval(self, xp: Arrays, slopes: Array, past: Array | None = None) -> Array:
        distance = _distances(xp, self.query, self.key, past)[:, None]
        return slopes[:, None, None] * distance.astype(slopes.dtype)


class CacheUpdate(Op):
    """cache[B, C, K, D] with new[B, S, K, D] written at rows past[b], past[b] + 1, …; rows beyond C are dropped."""

    kind = "memory"
    widen = False
    inplace = "cache"

    def infer(self, cache: Type, new: Type, past: Type) -> Type:
        require(cache.rank == new.rank == 4 and cache.dtype == new.dtype, f"cache_update: {new} does not fit {cache}")
        require(cache.shape[2:] == new.shape[2:], f"cache_update: {new} does not fit {cache}")
        require(_is_count(past), f"cache_update: {past} are not counts")
        for other in (new, past):
            assume_equal(cache.shape[0], other.shape[0], f"cache_update({cache}, {new}, {past})")
        return cache

    def eval(self, xp: Arrays, cache: Array, new: Array, past: Array) -> Array:
        rows = past[:, None] + xp.arange(new.shape[1], dtype="int32")
        if xp is np:
            return self.overwrite(cache.copy(), new, past)
        batch = xp.arange(new.shape[0], dtype="int32")[:, None]
        return cache.at[batch, rows].set(new, mode="drop", unique_indices=True)

    def overwrite(self, cache: np.ndarray, new: np.ndarray, past: np.ndarray) -> np.ndarray:
        for b, at in enumerate(past.tolist()):
            room = max(0, min(new.shape[1], cache.shape[1] - at))
            cache[b, at : at + room] = new[b, :room]
        return cache


class RingUpdate(Op):
    """ring[B, R, …] with the first count[b] rows of new[B, S, …] written at (past[b] + i) mod R; and what it held.

    Row p mod R of a ring is that of position p, for the R positions before past[b]. Results: the ring, in which
    later positions win, and those R rows in order of position, zeros before position 0.
    """

    kind = "memory"
    widen = False
    inplace = "ring"

    def infer(self, ring: Type, new: Type, past: Type, count: Type) -> tuple[Type, Type]:
        fits = ring.rank >= 2 and ring.format is None and ring.dtype == new.dtype and ring.shape[2:] == new.shape[2:]
        require(fits and ring.rank == new.rank, f"ring_update: {new} does not fit {ring}")
        require(_is_count(past) and _is_count(count), f"ring_update: {past}, {count} are not counts")
        for other in (new, past, count):
            assume_equal(ring.shape[0], other.shape[0], f"ring_update({ring}, {new}, {past}, {count})")
        return ring, ring

    def eval(self, xp: Arrays, ring: Array, new: Array, past: Array, count: Array) -> tuple[Array, Array]:
        if xp is np:
            return self.overwrite(ring.copy(), new, past, count)
        if ring.shape[1] == 0:
            return ring, ring
        batch = xp.arange(ring.shape[0], dtype="int32")[:, None]
        rows = self.rows(xp, ring, new, past, count)
        written = ring.at[batch, rows].set(new, mode="drop", unique_indices=True)
        return written, self.before(xp, ring, past)

    def overwrite(
        self, ring: np.ndarray, new: np.ndarray, past: np.ndarray, count: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if ring.shape[1] == 0:
            return ring, ring
        before = self.before(np, ring, past)
        for b, rows in enumerate(self.rows(np, ring, new, past, count)):
            kept = rows < ring.shape[1]
            ring[b, rows[kept]] = new[b, kept]
        return ring, before

    def rows(self, xp: Arrays, ring: Array, new: Array, past: Array, count: Array) -> Array:
        """Where each new row goes, i32[B, S]: R or more for those that are not written, and no number twice."""
        size, i = ring.shape[1], xp.arange(new.shape[1], dtype="int32")
        real = xp.minimum(count, new.shape[1])[:, None]
        return xp.where((i < real) & (i >= real - size), (past[:, None] + i) % size, size + i)

    def before(self, xp: Arrays, ring: Array, past: Array) -> Array:
        """The rows of the R positions before past[b]."""
        at = past[:, None] + xp.arange(-ring.shape[1], 0, dtype="int32")
        index = (slice(None), slice(None), *[None] * (ring.ndim - 2))
        rows = xp.take_along_axis(ring, (at % ring.shape[1])[index], axis=1)
        return xp.where((at >= 0)[index], rows, xp.zeros((), ring.dtype))


class LastRow(Op):
    """x[B, S, …] at row count[b] - 1, the last real token -> [B, 1, …]"""

    kind = "memory"
    widen = False

    def infer(self, x: Type, count: Type) -> Type:
        require(x.rank >= 2 and x.format is None, f"last_row: {x} has no rows")
        require(_is_count(count), f"last_row: {count} are not counts")
        assume_equal(x.shape[0], count.shape[0], f"last_row({x}, {count})")
        assume_at_most(1, x.shape[1], f"last_row: {x} has no row")
        return x.with_shape((x.shape[0], 1, *x.shape[2:]))

    def along(self, x: Type, count: Type) -> tuple[Axes, ...]:
        return (0, None, *range(2, x.rank)), (0,)

    def eval(self, xp: Arrays, x: Array, count: Array) -> Array:
        index = xp.clip(count - 1, 0, x.shape[1] - 1).reshape(-1, *[1] * (x.ndim - 1))
        return xp.take_along_axis(x, index, axis=1)


def _by_distance(self: Any, op: Ops, node: Node, state: Steps) -> Value | Independent | Refused:
    """A bias by the distance from query to key, of an op with these sizes as attributes, in a step."""
    query, key = (state.tokens in symbols_of(d) for d in (self.query, self.key))
    if not query and not key:
        return INDEPENDENT
    if node.get("past") is not None or not query:
        return Refused("it has a past already" if query else "it has a key for each token, and not a query")
    changed = self.changed(key=state.capacity) if key else self
    return op.again(node, changed, past=state.past)


def _fit(shape: tuple[Dim, ...], full: tuple[Dim, ...]) -> bool:
    """Whether what was broadcast with `full` is no larger: where that is not 1, they were assumed equal."""
    return len(shape) == len(full) and all(d == 1 for d, n in zip(shape, full, strict=True) if n == 1)


def _is_count(t: Type) -> bool:
    return t.rank == 1 and t.dtype == "i32"
