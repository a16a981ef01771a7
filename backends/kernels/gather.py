"""Rows and elements at indices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from burnish.backends.kernels.copy import contiguous, grain_of
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.emit import Argument, Emitter
from burnish.backends.native.tensor import Tensor
from burnish.ir.ops.attention import LastRow
from burnish.ir.ops.shape import Gather, GatherElements, GatherNd
from burnish.ir.types import Type

__all__ = ["GatherElementsNative", "GatherNdNative", "GatherRows", "LastRowNative"]


class _Gather(NativeKernel):
    """Of any numbers, by indices of 32 bits, or 64."""

    def why_not(self, op: Any, x: Type, indices: Type) -> str | None:
        """Needs plain numbers."""
        if x.format is not None:
            return f"{x} is packed"
        return None if indices.dtype in ("i32", "i64") else f"indices are {indices}"


class GatherRows(_Gather):
    """gather, an item a row: what lies behind the axis."""

    name = "gather.rows"
    op = "gather"

    def emit(
        self, emitter: Emitter, op: Gather, results: Sequence[Type], x: Tensor, indices: Tensor
    ) -> tuple[Tensor, ...]:
        """One call."""
        axis = op.axis % len(x.shape)
        out, indices = emitter.buffer(results[0].sizes, x.dtype), contiguous(emitter, indices)
        if not _is_row(x, axis + 1) or x.rows(len(x.shape) - axis) is None:
            x = contiguous(emitter, x)
        blocks, block_step = x.rows(len(x.shape) - axis) or (0, 0)
        size, count = _row_bytes(x, axis + 1), math.prod(indices.shape)
        _require_some(op, x.shape[axis], out)
        emitter.call(
            "gather", "gather", x.anywhere, block_step, x.shape[axis], x.strides[axis], size,
            indices, count, indices.dtype.itemsize, out,
            items=blocks * count if size else 0, writes=[out], by_row=True, grain=grain_of(size),
        )  # fmt: skip
        return (out,)


class GatherElementsNative(_Gather):
    """gather_elements, an item a line."""

    name = "gather_elements.native"
    op = "gather_elements"

    def emit(
        self, emitter: Emitter, op: GatherElements, results: Sequence[Type], x: Tensor, indices: Tensor
    ) -> tuple[Tensor, ...]:
        """One call."""
        axis = op.axis % len(x.shape)
        out, indices = emitter.buffer(indices.shape, x.dtype), contiguous(emitter, indices)
        _require_some(op, x.shape[axis], out)
        steps = [0 if i == axis else s for i, s in enumerate(x.strides)]
        lead: list[Argument] = []
        for size, step in zip(indices.shape[-2::-1], steps[-2::-1], strict=True):
            lead += [size, step]
        emitter.call(
            "gather", "elements", x, x.shape[axis], x.strides[axis], x.dtype.itemsize,
            indices, indices.dtype.itemsize, indices.shape[-1], steps[-1], out, len(x.shape) - 1, *lead,
            items=math.prod(indices.shape[:-1]) if indices.shape[-1] else 0, writes=[out],
            grain=grain_of(out.dtype.itemsize * indices.shape[-1]),
        )  # fmt: skip
        return (out,)


class GatherNdNative(_Gather):
    """gather_nd, an item a vector of indices."""

    name = "gather_nd.native"
    op = "gather_nd"

    def emit(
        self, emitter: Emitter, op: GatherNd, results: Sequence[Type], x: Tensor, indices: Tensor
    ) -> tuple[Tensor, ...]:
        """One call."""
        out, indices = emitter.buffer(results[0].sizes, x.dtype), contiguous(emitter, indices)
        depth = indices.shape[-1]
        _require_some(op, min(x.shape[:depth]), out)
        if not _is_row(x, depth):
            x = contiguous(emitter, x)
        size = _row_bytes(x, depth)
        axes = [a for each in zip(x.shape[:depth], x.strides[:depth], strict=True) for a in each]
        emitter.call(
            "gather", "vectors", x, size, indices, indices.dtype.itemsize, out, depth, *axes,
            items=math.prod(indices.shape[:-1]) if size else 0, writes=[out], grain=grain_of(size),
        )  # fmt: skip
        return (out,)


class LastRowNative(NativeKernel):
    """last_row, an item a sequence."""

    name = "last_row.native"
    op = "last_row"

    def why_not(self, op: LastRow, x: Type, count: Type) -> str | None:
        """Takes any."""
        return None

    def emit(
        self, emitter: Emitter, op: LastRow, results: Sequence[Type], x: Tensor, count: Tensor
    ) -> tuple[Tensor, ...]:
        """One call; none where there is one row."""
        if x.shape[1] == 1:
            return (x,)
        out = emitter.buffer(results[0].sizes, x.dtype)
        if not _is_row(x, 2):
            x = contiguous(emitter, x)
        size = _row_bytes(x, 2)
        emitter.call(
            "gather", "last_row", x, x.strides[0], x.shape[1], x.strides[1], size, count, count.strides[0], out,
            items=x.shape[0] if size else 0, writes=[out], grain=grain_of(size),
        )  # fmt: skip
        return (out,)


def _is_row(x: Tensor, axis: int) -> bool:
    """Whether what lies behind the axes before `axis` has no gaps."""
    return bool(x.array[(slice(0, 1),) * axis].flags.c_contiguous)


def _row_bytes(x: Tensor, axis: int) -> int:
    return math.prod(x.shape[axis:]) * x.dtype.itemsize


def _require_some(op: Any, size: int, out: Tensor) -> None:
    """Raise IndexError where there is nothing to gather from, as NumPy does."""
    if not size and out.array.size:
        raise IndexError(f"{op.name}: the axis has no rows")
