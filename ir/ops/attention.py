"""Attention, positions and caches: the one form that every frontend reaches.

Axes: B sequences, S new tokens, T keys (S of them, or the capacity C of a cache), H heads, K key heads, D head size.
Batches are right-padded. `past[b]` tokens of sequence b are in the cache already; `count[b]` tokens are real.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from burnish.ir.dims import Dim, product
from burnish.ir.guards import assume_at_most, assume_equal, assume_sizes, broadcast
from burnish.ir.op import Array, Arrays, Cost, Op
from burnish.ir.types import Type, require


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

    def eval(self, xp: Arrays, ids: Array, past: Array | None = None) -> Array:
        steps = xp.broadcast_to(xp.arange(ids.shape[1], dtype="int32"), ids.shape)
        return steps if past is None else steps + past[:, None]


class Rope(Op):
    """Rotate pairs (x[j], x[j + R/2]) of each head by positions * inv_freq[j] (arXiv:2104.09864).

    x[B, S, H, D], positions i32[B, S], inv_freq f32[R/2]; R <= D, the rest of the head stays.
    """

    def infer(self, x: Type, positions: Type, inv_freq: Type) -> Type:
        require(x.rank == 4 and x.is_float, f"rope: {x} is not [B, S, H, D]")
        require(positions.rank == 2 and positions.is_integer, f"rope: {positions} are not positions")
        require(inv_freq.rank == 1 and inv_freq.is_float, f"rope: {inv_freq} are not frequencies")
        half, size = inv_freq.shape[0], x.shape[3]
        good = isinstance(half, int) and isinstance(size, int) and 2 * half <= size
        require(good, f"rope: {inv_freq} has more frequencies than {x} has pairs")
        where = f"rope({x}, {positions})"
        require(_fit(broadcast(x.shape[:2], positions.shape, where=where), x.shape[:2]), where)
        return x

    def eval(self, xp: Arrays, x: Array, positions: Array, inv_freq: Array) -> Array:
        angles = positions.astype("float32")[..., None, None] * inv_freq
        cos, sin, half = xp.cos(angles), xp.sin(angles), inv_freq.shape[0]
        left, right, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        return xp.concatenate([left * cos - right * sin, right * cos + left * sin, rest], axis=-1)

    def cost(self, *operands: Type | None) -> Cost:
        cost = super().cost(*operands)
        return Cost(cost.flops * 3, cost.bytes)


class Attention(Op):
    """softmax(scale * q kᵀ + bias, over the visible keys) v -> [B, S, H, E].

    q[B, S, H, D], k[B, T, K, D], v[B, T, K, E], H a multiple of K; bias broadcasts to [B, H, S, T], a float one is
    added, a boolean one says what is visible. Key j is visible to token i iff it is a real token (j < count[b]) and,
    if `causal`, j <= past[b] + i and, with a `window`, j > past[b] + i - window. A token that sees no key gets zeros.
    """

    scale: float
    causal: bool = False
    window: int = 0
    kind = "matmul"

    def infer(
        self,
        q: Type,
        k: Type,
        v: Type,
        past: Type | None = None,
        count: Type | None = None,
        bias: Type | None = None,
    ) -> Type:
        require(q.rank == k.rank == v.rank == 4, f"attention: {q}, {k}, {v} are not [B, S, H, D]")
        require(q.is_float and q.dtype == k.dtype == v.dtype, f"attention: {q}, {k}, {v} differ in element type")
        require(q.shape[3] == k.shape[3], f"attention: the heads of {q} and {k} differ in size")
        require(k.shape[2] == v.shape[2], f"attention: {k} and {v} differ in heads")
        heads, groups = q.shape[2], k.shape[2]
        good = isinstance(heads, int) and isinstance(groups, int) and groups > 0 and heads % groups == 0
        require(good, f"attention: {heads} heads do not share {groups} key heads")
        require(self.causal or not self.window, "attention: a window needs causal=true")
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
        return q.with_shape((*q.shape[:3], v.shape[3]))

    def eval(
        self,
        xp: Arrays,
        q: Array,
        k: Array,
        v: Array,
        past: Array | None = None,
        count: Array | None = None,
        bias: Array | None = None,
    ) -> Array:
        b, s, h, d = q.shape
        t, groups = k.shape[1:3]
        heads = q.reshape(b, s, groups, h // groups, d).transpose(0, 2, 3, 1, 4).reshape(b, groups, -1, d)
        scores = xp.matmul(heads, k.transpose(0, 2, 3, 1)).reshape(b, h, s, t)
        p = self.weights(xp, scores, past, count, bias).reshape(b, groups, -1, t)
        y = xp.matmul(p, v.transpose(0, 2, 1, 3)).reshape(b, groups, h // groups, s, v.shape[3])
        return y.transpose(0, 3, 1, 2, 4).reshape(b, s, h, v.shape[3])

    def weights(self, xp: Arrays, scores: Array, past: Array | None, count: Array | None, bias: Array | None) -> Array:
        """How much of each value a token gets, [B, H, S, T], from the scores q kᵀ of that shape."""
        scores = scores * scores.dtype.type(self.scale)
        s, t = scores.shape[2:]
        visible = self.visible(xp, s, t, past, count)
        if bias is not None and bias.dtype == bool:
            visible = bias if visible is None else visible & bias
        elif bias is not None:
            scores = scores + bias
        if visible is not None:
            scores = xp.where(visible, scores, -xp.inf)
        top = xp.max(scores, axis=-1, keepdims=True)
        e = xp.exp(scores - xp.where(top == -xp.inf, 0, top))
        total = xp.sum(e, axis=-1, keepdims=True)
        return e / xp.where(total == 0, 1, total)

    def visible(self, xp: Arrays, s: int, t: int, past: Array | None, count: Array | None) -> Array | None:
        """bool[B or 1, 1, S, T], or None where everything is."""
        row, key = xp.arange(s, dtype="int32")[:, None], xp.arange(t, dtype="int32")
        visible = None
        if self.causal:
            at = row[None] if past is None else row[None] + past[:, None, None]
            visible = (key <= at)[:, None]
            if self.window:
                visible = visible & (key > at - self.window)[:, None]
        if count is not None:
            real = (key < count[:, None])[:, None, None]
            visible = real if visible is None else visible & real
        return visible

    def cost(self, *operands: Type | None) -> Cost:
        q, k, v = operands[:3]
        assert q is not None and k is not None and v is not None
        pairs = product((*q.shape[:3], k.shape[1]))
        return Cost(pairs * 2 * (q.shape[3] + v.shape[3]) + pairs * 5, super().cost(*operands).bytes)


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

    def eval(self, xp: Arrays, table: Array, past: Array | None = None) -> Array:
        at = xp.arange(self.query, dtype="int32")[None, :, None]
        if past is not None:
            at = at + past[:, None, None]
        distance = xp.arange(self.key, dtype="int32") - at  # key - query
        buckets = table.shape[0] // (2 if self.bidirectional else 1)
        lookup = xp.asarray(_buckets(buckets, self.max_distance))
        before = xp.abs(distance) if self.bidirectional else -xp.minimum(distance, 0)
        bucket = xp.take(lookup, xp.minimum(before, self.max_distance))
        if self.bidirectional:
            bucket = bucket + xp.where(distance > 0, buckets, 0)
        return xp.moveaxis(xp.take(table, bucket, axis=0), -1, 1)


@lru_cache(maxsize=64)
def _buckets(buckets: int, max_distance: int) -> np.ndarray:
    """The bucket of each distance 0..max_distance; each step rounds to f32, as T5's own code does."""
    f32, exact = np.float32, buckets // 2
    n = np.arange(max_distance + 1)
    ratio = f32(np.log(np.maximum(n, 1).astype("f4") / f32(exact), dtype="f8"))
    scaled = ratio / f32(math.log(max_distance / exact)) * f32(buckets - exact)
    return np.where(n < exact, n, np.minimum(exact + scaled.astype("i4"), buckets - 1)).astype("i4")


class CacheUpdate(Op):
    """cache[B, C, K, D] with new[B, S, K, D] written at rows past[b], past[b] + 1, …; rows beyond C are dropped."""

    kind = "memory"
    widen = False
    inplace = 0

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

    def cost(self, *operands: Type | None) -> Cost:
        new = operands[1]
        assert new is not None
        return Cost(0, new.nbytes * 2)


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

    def eval(self, xp: Arrays, x: Array, count: Array) -> Array:
        index = xp.clip(count - 1, 0, x.shape[1] - 1).reshape(-1, *[1] * (x.ndim - 1))
        return xp.take_along_axis(x, index, axis=1)


def _fit(shape: tuple[Dim, ...], full: tuple[Dim, ...]) -> bool:
    """Whether what was broadcast with `full` is no larger: where that is not 1, they were assumed equal."""
    return len(shape) == len(full) and all(d == 1 for d, n in zip(shape, full, strict=True) if n == 1)


def _is_count(t: Type) -> bool:
    return t.rank == 1 and t.dtype == "i32"
