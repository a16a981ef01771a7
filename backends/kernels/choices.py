"""Which experts are chosen, and by which rows: those that choose the same one are multiplied together."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from burnish.backends.kernels.copy import contiguous
from burnish.backends.kernels.rows import as_rows
from burnish.backends.native.emit import Argument, Emitter
from burnish.backends.native.tensor import Memory, Tensor

__all__ = ["Groups", "groups_of"]

I32 = np.dtype("i4")


class Groups(NamedTuple):
    """Group i is of the expert `experts[i]`, and multiplies the rows `starts[i]` to `starts[i + 1]` - 1 of `x`, into
    those of `out`. Of `most` groups, the last may be empty.
    """

    experts: Tensor  # i32[most]; those out of bounds mean the nearest
    starts: Tensor  # i32[most + 1]
    most: int
    x: Tensor
    x_step: int  # bytes between rows
    out: Tensor
    order: Tensor | None  # i32[choices], where the rows are not in the order of the choices: that in which they are

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """What compiled code is told of them, see `simd.choices.groups`."""
        return self.experts, self.starts, self.most

    def finish(self, emitter: Emitter, out: Tensor) -> None:
        """Put each row of results in the place of its choice."""
        if self.order is not None:
            size = self.out.strides[0]
            emitter.call(
                "choices", "scatter", self.order, self.out, size, out, items=self.order.shape[0], writes=[out]
            )  # fmt: skip


def groups_of(emitter: Emitter, x: Tensor, chosen: Tensor, experts: int, out: Tensor, step: int) -> Groups:
    """The groups that `chosen`[…, k] makes of rows x[…, k or 1, n], and where their results out[…, k, N] go first.

    One token's choices are a group each; others are sorted, and their rows copied to where they lie `step` bytes apart.
    Products of a graph that choose alike, of the same rows, share what is made.
    """
    count, k = math.prod(chosen.shape), chosen.shape[-1]
    if count == k:
        each = np.arange(count + 1, dtype=I32)
        x, (rows, x_step) = as_rows(emitter, x)
        chosen, x_step = contiguous(emitter, chosen), x_step if rows == k else 0
        return Groups(chosen, Tensor(Memory(each, "fixed"), each), count, x, x_step, out, None)
    most = min(count, experts)
    made = emitter.once(("sorted", chosen, experts), lambda: _sorted(emitter, chosen, experts))
    found, starts, order = (made.view(part) for part in np.split(made.array, [most, 2 * most + 1]))
    gathered = emitter.once(("gathered", x, chosen, experts, step), lambda: _gathered(emitter, x, order, k, step))
    results = emitter.buffer((count, out.shape[-1]), out.dtype)
    return Groups(found, starts, most, gathered, step, results, order)


def _sorted(emitter: Emitter, chosen: Tensor, experts: int) -> Tensor:
    """Each group's expert, and where it starts; the choices in that order."""
    count = math.prod(chosen.shape)
    most = min(count, experts)
    made = emitter.buffer((most + most + 1 + count,), I32)
    emitter.call(
        "choices", "sort", contiguous(emitter, chosen), count, experts, most, made,
        items=min(count, 1), writes=[made], scratch=4 * experts,
    )  # fmt: skip
    return made


def _gathered(emitter: Emitter, x: Tensor, order: Tensor, k: int, step: int) -> Tensor:
    """The rows of x in that order."""
    share, size = k if x.shape[-2] == 1 else 1, x.shape[-1] * x.dtype.itemsize
    x, (_, x_step) = as_rows(emitter, x)
    made = emitter.buffer((order.shape[0], step), np.dtype("u1"))
    emitter.call(
        "choices", "gather", order, x, x_step, share, size, made, step, items=order.shape[0], writes=[made]
    )  # fmt: skip
    return made
