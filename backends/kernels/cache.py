"""States of attention, written where they lie: a kernel is asked only where nothing else reads the state."""

from __future__ import annotations

import math
from collections.abc import Sequence

from burnish.backends.kernels.copy import contiguous, grain_of
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import RingRows, Tensor
from burnish.ir.ops.attention import CacheUpdate, RingUpdate
from burnish.ir.types import Type

__all__ = ["CacheUpdateInPlace", "RingUpdateInPlace", "in_order"]


class CacheUpdateInPlace(NativeKernel):
    """cache_update, which gives the tensor that it was given."""

    name = "cache_update.in_place"
    op = "cache_update"

    def why_not(self, op: CacheUpdate, cache: Type, new: Type, past: Type) -> str | None:
        """Takes any."""
        return f"{cache} is packed" if cache.format is not None else None

    def emit(
        self, emitter: Emitter, op: CacheUpdate, results: Sequence[Type], cache: Tensor, new: Tensor, past: Tensor
    ) -> tuple[Tensor, ...]:
        """One call; an item is a token."""
        (batch, tokens, parts, n), size = new.shape, new.dtype.itemsize
        if 0 in cache.shape:
            return (cache,)
        if n > 1 and new.strides[3] != size:
            new = contiguous(emitter, new)
        size *= n
        if new.strides[2] == cache.strides[2] == size:
            parts, size = 1, parts * size
        emitter.call(
            "cache", "update",
            cache.anywhere, *cache.strides[:3], new, *new.strides[:3], past, past.strides[0],
            tokens, cache.shape[1], parts, size,
            items=batch * tokens, writes=[cache], by_row=True, grain=grain_of(parts * size),
        )  # fmt: skip
        return (cache,)


class RingUpdateInPlace(NativeKernel):
    """ring_update, whose first result is the tensor that it was given."""

    name = "ring_update.in_place"
    op = "ring_update"

    def why_not(self, op: RingUpdate, ring: Type, new: Type, past: Type, count: Type) -> str | None:
        """Takes any."""
        return None

    def emit(
        self,
        emitter: Emitter,
        op: RingUpdate,
        results: Sequence[Type],
        ring: Tensor,
        new: Tensor,
        past: Tensor,
        count: Tensor,
    ) -> tuple[Tensor, Tensor | RingRows]:
        """A call, an item a token, that saves what it overwrites; or after one that copies all, where that is more."""
        (batch, rows), inner, tokens = ring.shape[:2], ring.shape[2:], new.shape[1]
        if not rows:
            return ring, ring
        nothing = ring.view(ring.array[:, :0])
        saved = emitter.buffer((batch, tokens, *inner), ring.dtype) if tokens < rows else None
        before = in_order(emitter, RingRows(nothing, ring, past)) if saved is None else RingRows(saved, ring, past)
        if new.rows(len(inner)) is None or not new.array[:1, :1].flags.c_contiguous:
            new = contiguous(emitter, new)
        size = math.prod(inner) * ring.dtype.itemsize
        emitter.call(
            "cache", "ring",
            ring.anywhere, ring.strides[0], new, *new.strides[:2], past, past.strides[0], count, count.strides[0],
            tokens, rows, size, saved,
            items=batch * tokens if size else 0, writes=[ring] if saved is None else [ring, saved], by_row=True,
            grain=grain_of(size),
        )  # fmt: skip
        return ring, before


def in_order(emitter: Emitter, rows: RingRows) -> Tensor:
    """A copy, with zeros before position 0; an item is a row."""
    ring, first, past = rows.ring, rows.first, rows.past
    out, size = emitter.buffer(ring.shape, ring.dtype), math.prod(ring.shape[2:]) * ring.dtype.itemsize
    emitter.call(
        "cache", "before", ring, ring.strides[0], past, past.strides[0], ring.shape[1], size,
        first, first.shape[1], out,
        items=math.prod(ring.shape[:2]) if size else 0, writes=[out], grain=grain_of(size),
    )  # fmt: skip
    return out
