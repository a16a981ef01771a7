"""Attention over the keys that a token sees, without a matrix of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.backends.kernels.copy import contiguous
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.emit import Argument, Emitter
from burnish.backends.native.tensor import Tensor
from burnish.ir.op import Op
from burnish.ir.types import Type

__all__ = ["AttentionTiles"]

ROWS = 64  # of a tile, at most
BLOCK, SEGMENT = 64, 256  # keys that are merged at once, as `simd/attention.py` does
SHARES_A_THREAD = 4


class AttentionTiles(NativeKernel):
    """Every form of attention on f32; a row's bits depend on its query and on the keys that it sees alone."""

    name = "attention.tiles"
    op = "attention"

    def why_not(self, op: Op, q: Type, k: Type, v: Type, *others: Type | None) -> str | None:
        """Needs f32, and a bias of f32 or a mask."""
        wrong = [t for t in (q, k, v, *others) if t is not None and t.dtype not in ("f32", "i32", "bool")]
        if op.softcap:
            return "a cap of scores"
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
        k_before: Tensor | None = None,
        v_before: Tensor | None = None,
        sinks: Tensor | None = None,
    ) -> tuple[Any, ...]:
        """A call over tiles of rows; where these are few, one over their segments, and one that joins them."""
        out = emitter.empty(results[0])
        (batch, tokens, heads, head), (keys, key_heads, value) = q.shape, v.shape[1:]
        before = -1 if k_before is None else k_before.shape[1]
        group = heads // key_heads
        most = min(group, ROWS)
        per = max(1, min(ROWS // most, tokens))
        tiles = math.ceil(tokens / per) * batch * key_heads * math.ceil(group / most)
        room = math.ceil(most * per / 16) * 16
        step = 2 * emitter.isa.lanes if emitter.isa.lanes > 8 else 16
        width = math.ceil(value / step) * step
        segments = math.ceil((keys + max(0, before)) / SEGMENT) + (before >= 0)  # they begin anywhere in one
        split = emitter.threads > 1 and segments > 1 and tiles < SHARES_A_THREAD * emitter.threads
        partial = emitter.buffer((tiles, segments, room * (2 + width)), np.dtype("f4")) if split else None
        arguments: list[Argument] = []
        for t in (q, k, v, k_before, v_before):
            t = None if t is None else dense(emitter, t)
            arguments += [t, *((0, 0, 0) if t is None else t.strides[:3])]
        if bias is not None:
            bias = dense(emitter, bias)
            full = np.broadcast_to(bias.array, (batch, heads, tokens, keys if before < 0 else 1))
            arguments += [bias, *full.strides, bias.dtype == np.bool_]
        else:
            arguments += [None, 0, 0, 0, 0, 0]
        counts = [None if t is None else contiguous(emitter, t) for t in (past, count, sinks)]
        cap = float(op.softcap)
        arguments += [out, *counts, partial, tokens, keys, before, heads, key_heads, head, value]
        arguments += [op.causal, op.window, float(op.scale), cap, 1 / cap if cap else 0.0, op.no_keys == "nan"]
        shares = min(tiles * segments, SHARES_A_THREAD * emitter.threads)
        arguments += [batch, tiles, per, most, room, width, segments, shares]
        packed = math.ceil(head / 16) * 16
        scratch = 4 * (room * (4 + 2 * (2 + width) + BLOCK + packed) + BLOCK * (4 + packed + width))
        items, writes = (shares, partial) if partial is not None else (tiles, out)
        emitter.call(
            "attention", "attend", *arguments, items=items if out.array.size else 0, writes=[writes], scratch=scratch
        )
        if split:
            emitter.call(
                "attention", "join", *arguments, items=tiles if out.array.size else 0, writes=[out], scratch=scratch
            )
        return (out,)


def dense(emitter: Emitter, t: Tensor) -> Tensor:
    """The tensor, or a copy, whose last axis has no gaps."""
    fits = not t.shape or t.shape[-1] <= 1 or t.strides[-1] == t.dtype.itemsize
    return t if fits else contiguous(emitter, t)
