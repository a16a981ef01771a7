"""Copies, where a kernel wants its operand to lie otherwise."""

from __future__ import annotations

import math

from burnish.backends.native.emit import Argument, Emitter
from burnish.backends.native.tensor import Tensor

__all__ = ["contiguous", "copy"]


def contiguous(emitter: Emitter, t: Tensor) -> Tensor:
    """The tensor, or a copy, that lies row after row without gaps."""
    if t.is_contiguous:
        return t
    made = emitter.buffer(t.shape, t.dtype)
    copy(emitter, t, made)
    return made


def copy(emitter: Emitter, source: Tensor, target: Tensor) -> None:
    """Copy between tensors of one shape and element type."""
    *lead, n = source.shape or (1,)
    *sources, source_step = source.strides or (0,)
    *targets, target_step = target.strides or (0,)
    axes: list[Argument] = []
    for size, x, y in zip(reversed(lead), reversed(sources), reversed(targets), strict=True):
        axes += [size, x, y]
    emitter.call(
        "copy", "copy", source, target, source.dtype.itemsize, n, source_step, target_step, len(lead), *axes,
        items=math.prod(lead) if n else 0, writes=[target],
    )  # fmt: skip
