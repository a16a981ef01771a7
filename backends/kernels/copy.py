"""Copies, where a kernel wants its operand to lie otherwise."""

from __future__ import annotations

import math

from burnish.backends.native.emit import Argument, Emitter
from burnish.backends.native.tensor import Tensor

__all__ = ["contiguous", "copy", "grain_of"]

LINE = 4096  # bytes that are worth a call, and a thread's while


def contiguous(emitter: Emitter, t: Tensor) -> Tensor:
    """The tensor, or a copy, that lies row after row without gaps."""
    if t.is_contiguous:
        return t
    made = emitter.buffer(t.shape, t.dtype)
    copy(emitter, t, made)
    return made


def copy(emitter: Emitter, source: Tensor, target: Tensor) -> None:
    """Copy between tensors of one shape and element type; an item is a line, along the last axis or the last few."""
    size = source.dtype.itemsize
    axes = _axes(source, target)
    n, source_step, target_step = axes[0]
    while len(axes) > 1 and n * size < LINE and axes[1][1:] == (n * source_step, n * target_step):
        n *= axes.pop(1)[0]
    lead: list[Argument] = [x for axis in axes[1:] for x in axis]
    emitter.call(
        "copy", "copy", source, target, size, n, source_step, target_step, len(axes) - 1, *lead,
        items=math.prod(a[0] for a in axes[1:]) if n else 0, writes=[target], by_row=True, grain=grain_of(n * size),
    )  # fmt: skip


def grain_of(size: int) -> int:
    """How many pieces of that many bytes are worth a thread's while."""
    return -(-LINE // max(1, size))


def _axes(source: Tensor, target: Tensor) -> list[tuple[int, int, int]]:
    """Of each axis, the last first: its size, the bytes between its elements in each. Those of size 1 are left out."""
    axes = zip(source.shape, source.strides, target.strides, strict=True)
    return [a for a in reversed(list(axes)) if a[0] != 1] or [(1, source.dtype.itemsize, source.dtype.itemsize)]
