"""Attention over the keys that a token sees, without a matrix of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.backends.kernels.cache import in_order
from burnish.backends.kernels.copy import contiguous
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.simd import attention_arguments as arg
from burnish.backends.native.emit import Argument, Emitter
from burnish.backends.native.tensor import RingRows, Tensor
from burnish.ir.types import Type

__all__ = ["AttentionTiles"]

ROWS = 64  # of a tile, at most: so its data stays in a core's cache
SHARES_A_THREAD = 4  # so that a thread that is held up leaves its work to the others


class AttentionTiles(NativeKernel):
    """Every form of attention on f32; a row's bits depend on its query, and on the keys that it sees, alone."""

    name = "attention.tiles"
    op = "attention"
    takes_rings = True

    def why_not(self, op: Any, q: Type, k: Type, v: Type, *others: Type | None) -> str | None:
        """Needs f32, but for counts and masks."""
        wrong = [t for t in (q, k, v, *others) if t is not None and t.dtype not in ("f32", "i32", "bool")]
        return f"{wrong[0]} is not f32" if wrong else None

    def emit(
        self,
        emitter: Emitter,
        op: Any,
        results: Sequence[Type],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        past: Tensor | None = None,
        count: Tensor | None = None,
        bias: Tensor | None = None,
        k_before: Tensor | RingRows | None = None,
        v_before: Tensor | RingRows | None = None,
        sinks: Tensor | None = None,
    ) -> tuple[Any, ...]:
        """A call over tiles of rows; where these are few, one over their segments of keys, and one that joins them."""
        (batch, tokens, heads, head), (keys, key_heads, value) = q.shape, v.shape[1:]
        before, group, cap = -1 if k_before is None else k_before.shape[1], heads // key_heads, float(op.softcap)
        most_keys = keys + max(0, before)
        nan = op.no_keys == "nan" and most_keys > 0  # a product over nothing is 0 all the same
        out = emitter.buffer(results[0].sizes, np.dtype("f4"))
        words: dict[int, Argument] = {
            arg.OUT: out, arg.BATCH: batch, arg.TOKENS: tokens, arg.KEYS: keys, arg.BEFORE: before, arg.HEADS: heads,
            arg.KEY_HEADS: key_heads, arg.HEAD: head, arg.VALUE: value, arg.CAUSAL: op.causal, arg.WINDOW: op.window,
            arg.SCALE: float(op.scale), arg.CAP: cap, arg.UNCAP: 1 / cap if cap else 0.0, arg.NAN: nan,
        }  # fmt: skip
        placed = [(arg.Q, q), (arg.K, k), (arg.V, v)]
        for rows, at, ring, first in (
            (k_before, arg.K_BEFORE, arg.K_RING, arg.K_FIRST),
            (v_before, arg.V_BEFORE, arg.V_RING, arg.V_FIRST),
        ):
            if isinstance(rows, RingRows) and rows.past is past:
                placed += [(at, rows.first), (ring, rows.ring)]
                words[first] = rows.first.shape[1]
            elif rows is not None:
                placed.append((at, in_order(emitter, rows) if isinstance(rows, RingRows) else rows))
                words[first] = before
        for place, x in placed:
            x = _dense(emitter, x)
            words |= zip(range(place, place + 32, 8), (x, *x.strides[:3]), strict=True)
        if bias is not None:
            bias = _dense(emitter, bias)
            strides = np.broadcast_to(bias.array, (batch, heads, tokens, keys if before < 0 else 1)).strides
            words |= zip(range(arg.BIAS, arg.BIAS + 48, 8), (bias, *strides, bias.dtype == np.bool_), strict=True)
        for place, t in ((arg.PAST, past), (arg.COUNT, count), (arg.SINKS, sinks)):
            words[place] = None if t is None else contiguous(emitter, t)

        most = min(group, ROWS)
        queries = max(1, min(ROWS // most, tokens))
        tiles = batch * math.ceil(tokens / queries) * key_heads * math.ceil(group / most)
        room, width = _up(most * queries, 16), _up(value, max(16, arg.REGISTERS * emitter.isa.lanes))
        segments = math.ceil(most_keys / arg.SEGMENT) + (before >= 0)  # these begin anywhere in one
        shares = min(tiles * segments, SHARES_A_THREAD * emitter.threads)
        words |= {arg.TILES: tiles, arg.QUERIES: queries, arg.HEADS_EACH: most, arg.ROOM: room, arg.WIDTH: width}
        state, step = room * (2 + width), _up(head, 16)
        scratch = 4 * (4 * room + 2 * state + room * (arg.BLOCK + step) + arg.BLOCK * (4 + step + width))
        if not out.array.size:
            return (out,)
        if emitter.threads == 1 or segments <= 1 or tiles >= shares:
            _call(emitter, "attend", words, tiles, out, scratch)
        else:
            partial = emitter.buffer((tiles, segments, state), np.dtype("f4"))
            words |= {arg.PARTIAL: partial, arg.SEGMENTS: segments, arg.SHARES: shares}
            _call(emitter, "attend", words, shares, partial, scratch)
            _call(emitter, "join", words, tiles, out, scratch)
        return (out,)


def _call(
    emitter: Emitter, function: str, words: dict[int, Argument], items: int, writes: Tensor, scratch: int
) -> None:
    arguments = [words.get(i) for i in range(0, arg.SIZE, 8)]
    emitter.call("attention", function, *arguments, items=items, writes=[writes], scratch=scratch)


def _dense(emitter: Emitter, t: Tensor) -> Tensor:
    """The tensor, or a copy, whose last axis has no gaps."""
    fits = not t.shape or t.shape[-1] <= 1 or t.strides[-1] == t.dtype.itemsize
    return t if fits else contiguous(emitter, t)


def _up(n: int, step: int) -> int:
    return -(-n // step) * step
