"""Boxes: a range of each axis of a tensor. Weight time reads and computes its tensors box by box."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from burnish.ir.format import Packed

__all__ = ["Box", "boxes_of", "cut", "moved", "reshaped", "under", "whole"]

Array = Any  # a numpy.ndarray, or Packed
Box = tuple[slice, ...]  # an axis each, with start and stop


def whole(shape: Sequence[int]) -> Box:
    """All of a tensor of this shape."""
    return tuple(slice(0, d) for d in shape)


def moved(box: Box, axis: int, by: int) -> Box:
    """The box `by` elements further along `axis`."""
    s = box[axis]
    return (*box[:axis], slice(s.start + by, s.stop + by), *box[axis + 1 :])


def under(box: Box, shape: Sequence[int]) -> Box:
    """The box of an operand of this shape that broadcasts to `box` of the result."""
    last = box[len(box) - len(shape) :]
    return tuple(slice(0, 1) if d == 1 else s for s, d in zip(last, shape, strict=True))


def reshaped(box: Box, after: Sequence[int], before: Sequence[int]) -> tuple[Box, Box]:
    """A box of the shape `after` that holds `box`, and that of `before`, another shape of as many elements, with the
    same elements: row-major order is kept. The smallest ones, if `box` is a range of an axis; no size may be 0.
    """
    held: list[slice] = []
    source: list[slice] = []
    cuts, cuts_before = _cuts(after), _cuts(before)
    for elements in sorted(cuts.keys() & cuts_before.keys()):  # axes up to there have as many elements in both
        axes = after[len(held) : cuts[elements]]
        axes_before = before[len(source) : cuts_before[elements]]
        part = box[len(held) : cuts[elements]]
        strides = [math.prod(axes[i + 1 :]) for i in range(len(axes))]
        low = sum(s.start * n for s, n in zip(part, strides, strict=True))
        high = sum((s.stop - 1) * n for s, n in zip(part, strides, strict=True)) + 1
        while True:
            inside, start, stop = _side_by_side(axes, low, high)
            inside_before, low, high = _side_by_side(axes_before, start, stop)
            if (low, high) == (start, stop):
                break
        held += inside
        source += inside_before
    return tuple(held), tuple(source)


def _cuts(shape: Sequence[int]) -> dict[int, int]:
    """How many elements the first axes have together: the largest number of axes for each."""
    return {math.prod(shape[:axes]): axes for axes in range(len(shape) + 1)}


def _side_by_side(shape: Sequence[int], low: int, high: int) -> tuple[Box, int, int]:
    """The smallest box of neighbours in memory that holds the elements from `low` to `high` - 1, and its own range."""
    if not shape:
        return (), low, high
    stride = math.prod(shape[1:])
    first, last = low // stride, (high - 1) // stride
    if first < last:
        return (slice(first, last + 1), *whole(shape[1:])), first * stride, (last + 1) * stride
    at = first * stride
    inner, start, stop = _side_by_side(shape[1:], low - at, high - at)
    return (slice(first, last + 1), *inner), at + start, at + stop


def cut(array: Array, box: Box) -> Array:
    """A box of an array (a view of it), or of a packed one, of which the last axis must be whole."""
    if not isinstance(array, Packed):
        return array[(*box, ...)]
    assert box[-1] == slice(0, array.shape[-1]), "the groups of a packed array lie along its last axis"
    planes = {name: plane[(*box[:-1], ...)] for name, plane in array.planes.items()}
    return array.with_planes(planes, tuple(s.stop - s.start for s in box))


def boxes_of(shape: Sequence[int], elements: int) -> Iterator[Box]:
    """Boxes of about so many elements that make up the shape, in the order of memory; the last axis is never cut."""
    if 0 in shape:
        return
    if len(shape) < 2:
        yield whole(shape)
        return
    axis = next((i for i in range(len(shape) - 1) if math.prod(shape[i + 1 :]) <= elements), len(shape) - 2)
    step = max(1, elements // math.prod(shape[axis + 1 :]))
    for index in itertools.product(*map(range, shape[:axis])):
        for low in range(0, shape[axis], step):
            rows = slice(low, min(low + step, shape[axis]))
            yield (*(slice(i, i + 1) for i in index), rows, *whole(shape[axis + 1 :]))
