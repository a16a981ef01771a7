"""Boxes: a range of each axis of a tensor. Weight time reads and computes its tensors box by box."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from burnish.ir.format import Packed

__all__ = ["Box", "boxes_of", "cut", "moved", "under", "whole"]

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
