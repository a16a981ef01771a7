"""How operands are handed to functions of rows: as items at equal distances, each of some rows at equal distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from burnish.backends.kernels.copy import contiguous
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import Tensor

__all__ = ["Operand", "as_rows", "items_of"]


def as_rows(emitter: Emitter, t: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """`t`, or a copy, whose rows lie at equal distances, each without gaps; how many these are, and that distance."""
    rows = t.rows()
    if rows is not None and (t.shape[-1] == 1 or t.strides[-1] == t.dtype.itemsize):
        return t, rows
    made = contiguous(emitter, t)
    return made, (math.prod(t.shape[:-1]), made.strides[-2] if len(t.shape) > 1 else 0)


class Operand(NamedTuple):
    """A tensor, and the bytes from one item to the next, from row to row, from element to element."""

    tensor: Tensor
    item: int
    row: int
    element: int


class Items(NamedTuple):
    """How many items there are, of how many rows, of how many elements; and how each tensor lies in them."""

    items: int
    rows: int
    n: int
    operands: list[Operand]


def items_of(emitter: Emitter, shape: Sequence[int], tensors: Sequence[Tensor], keep_rows: bool = False) -> Items:
    """Tensors that broadcast to a shape, in items that are alike for all of them; what does not lie so is copied.

    An item is a token where that can be, an element of the first two axes: so that phases of tokens go on. The
    elements of a row lie side by side, or are one. Unless `keep_rows`, rows that lie side by side become one.
    """
    shape = tuple(shape) or (1,)
    views = [_row_view(emitter, t, shape) for t in tensors]
    lead = len(shape) - 1
    orders = dict.fromkeys(k for k in (2, lead, 1, 0) if k <= lead)
    for k in orders:
        found = [_operand(v, k) for v in views]
        if all(found):
            break
    else:
        k = min(2, lead)
        found = [_operand(v, k) or _operand(contiguous(emitter, v), k) for v in views]
    operands = [o for o in found if o is not None]
    items, rows, n = math.prod(shape[:k]), math.prod(shape[k:-1]), shape[-1]
    if not keep_rows and rows > 1 and all(o.row == n * o.element for o in operands):
        rows, n = 1, rows * n
    return Items(items, rows, n, operands)


def _row_view(emitter: Emitter, t: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The tensor, broadcast, whose elements lie side by side in a row, or are one."""
    if t.shape and t.shape[-1] > 1 and t.strides[-1] not in (0, t.dtype.itemsize):
        t = contiguous(emitter, t)
    return t if t.shape == shape else t.view(np.broadcast_to(t.array, shape))


def _operand(t: Tensor, k: int) -> Operand | None:
    """A tensor by items of its first k axes; None where these or their rows lie at unequal distances."""
    between = t.rows(len(t.shape) - k)
    within = t.view(t.array[(0,) * k]).rows() if t.array.size else (0, 0)
    if between is None or within is None:
        return None
    element = t.dtype.itemsize if t.shape[-1] == 1 else t.strides[-1]
    return Operand(t, between[1], within[1], element)
