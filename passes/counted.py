"""What is made of 0, 1, …, S - 1 alone, made anew of the positions of tokens: a row of it for each sequence.

S is the number of tokens. A value counts them where one of its axes is S long and it depends on no input. It is made
anew in its form for sequences: [B, …] with its own axes behind B, but for a unit axis in front, which B takes the
place of. Both are the same numbers, each sequence's alike; but positions go on from step to step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.ir.builder import Ops
from burnish.ir.dims import Dim, Sym, symbols_of
from burnish.ir.graph import Node, Value
from burnish.ir.ops.elementwise import Cast
from burnish.ir.ops.linear import Embedding, Matmul
from burnish.ir.ops.shape import (
    BroadcastTo,
    Concat,
    Gather,
    GatherElements,
    GatherNd,
    Iota,
    Reshape,
    Slice,
    Split,
    Squeeze,
    Transpose,
    Unsqueeze,
)
from burnish.ir.origin import Origin
from burnish.ir.state import axes_with
from burnish.ir.types import NUMPY
from burnish.ir.walk import above
from burnish.passes.simplify_memory import unit_axes

__all__ = ["Counted", "bare", "behind_batch"]

_VIEWS = (Reshape, Squeeze, Unsqueeze)
_ALONG_AN_AXIS = (Concat, Slice, Split, Transpose)
_LOOK_UPS = (Embedding, Gather, GatherElements, GatherNd)
_OTHERS = (*_VIEWS, *_ALONG_AN_AXIS, *_LOOK_UPS, BroadcastTo, Matmul)


class Counted:
    """The values of one graph that count its tokens, ids[B, S]; `rule` makes them anew."""

    def __init__(self, ids: Value, rule: str) -> None:
        self.ids, self.rule = ids, rule
        self.batch, self.length = ids.shape
        self._known: dict[Value, bool] = {}
        self._made: dict[Value, Value] = {}
        self._at: Value | None = None  # positions(ids)

    def has(self, value: Value) -> bool:
        """Whether it counts tokens, by ops that can be made anew."""
        return isinstance(self.length, Sym) and bool(self._axes(value)) and self._fits(value)

    def form(self, value: Value) -> tuple[Dim, ...]:
        """The shape of what is made anew."""
        axes = self._axes(value)
        return (self.batch, *value.shape[1 if value.shape[0] == 1 and axes != [0] else 0 :])

    def anew(self, op: Ops, value: Value) -> Value:
        """The value for each sequence: see `form`. Raises InferError."""
        found = self._made.get(value)
        if found is None or (found.node is not None and found.node.graph is None):
            assert value.node is not None
            with op.at(Origin.union([value.node.origin], self.rule)):  # it belongs where it was: no block's alone
                made = self._make(op, value.node)
            self._made.update(zip(value.node.outputs, made, strict=True))
            found = self._made[value]
        return found

    def _axes(self, value: Value) -> list[int]:
        return axes_with(value.type, str(self.length))

    def _fits(self, value: Value) -> bool:
        if value not in self._known:
            node, axes = value.node, self._axes(value)
            if node is None or set(symbols_of(self.batch)) & set(value.type.symbols):
                known = False
            elif not axes:
                known = value.time != "run" or all(v.node is not None for n in above([value]) for v in n.operands)
            elif len(axes) > 1 or value.shape[axes[0]] is not self.length:
                known = False
            elif self._first(node) is not None:
                known = True
            elif isinstance(node.op, GatherElements):
                known = self._column(node) is not None and self._fits(node["x"]) and self._fits(node["indices"])
            else:
                good = node.op.elementwise or node.op.by_last_axis or isinstance(node.op, _OTHERS)
                known = good and all(self._fits(v) for v in node.operands)
            self._known[value] = known
        return self._known[value]

    def _first(self, node: Node) -> int | None:
        """What it counts from: 0, 1, … themselves, or the rows of something fixed, as many as there are tokens."""
        if isinstance(node.op, Iota):
            return 0
        if not isinstance(node.op, Slice) or self._axes(node["x"]) or not self._fits(node["x"]):
            return None
        start, stop = node.op.start, node.op.stop
        return start if isinstance(start, int) and stop == start + self.length else None

    def _make(self, op: Ops, node: Node) -> Sequence[Value]:
        form, first = self.form(node.out), self._first(node)
        if first is not None and isinstance(node.op, Iota):
            return [self._positions(op, 0, node.out.dtype)]
        if first is not None:
            return [self._view(op, self._rows(op, node, first), form)]
        if isinstance(node.op, _VIEWS):
            return [self._view(op, self.anew(op, node["x"]), form)]
        if isinstance(node.op, BroadcastTo):
            return [op.broadcast_to(behind_batch(op, self.anew(op, node["x"]), len(form)), shape=form)]
        if isinstance(node.op, Matmul):
            return [self._view(op, self._product(op, node), form)]
        if isinstance(node.op, _LOOK_UPS):
            return [self._view(op, self._looked_up(op, node), form)]
        if isinstance(node.op, _ALONG_AN_AXIS):
            return [self._view(op, v, self.form(o)) for v, o in zip(self._along(op, node), node.outputs, strict=True)]
        given = {
            node.op.operand(i): behind_batch(op, self.anew(op, v), len(form)) if self._axes(v) else v
            for i, v in enumerate(node.inputs)
            if v is not None
        }
        return [op.again(node, **given)]

    def _positions(self, op: Ops, first: int, dtype: str) -> Value:
        at = self._at
        if at is None or at.node is None or at.node.graph is None:
            at = self._at = op.positions(self.ids)
        at = at if dtype == at.dtype else op.cast(at, to=dtype)
        return op.add(at, first) if first else at

    def _rows(self, op: Ops, node: Node, first: int) -> Value:
        """table[first : first + S] along an axis: [B, …]"""
        table, axis = node["x"], node["x"].type.axis(node.op.axis)  # type: ignore[attr-defined]  # a slice
        data = table.literal
        if data is not None and data.size == data.shape[axis] and data.dtype.kind in "iu":
            counts_from = int(data.flat[0]) if data.size else 0
            if (data.ravel() == counts_from + np.arange(data.size)).all():
                return self._view(op, self._positions(op, first + counts_from, table.dtype), self._full(node.out))
        return self._gathered(op, table, self._positions(op, first, "i32"), (self.length,), axis)

    def _gathered(self, op: Ops, table: Value, at: Value, shape: tuple[Dim, ...], axis: int) -> Value:
        """table at [B, *shape] along an axis: [B, the axes of table before it, *shape, those behind it]"""
        others = [i for i in range(table.type.rank) if i != axis]
        first = op.transpose(table, perm=(axis, *others)) if axis else table
        if first.type.rank == 2 and first.is_weight and first.type.is_float:
            rows = op.embedding(bare(at), first, to=first.dtype)
        else:
            rows = op.gather(first, bare(at), axis=0)
        rows = self._view(op, rows, (self.batch, *shape, *(table.shape[i] for i in others)))
        if not axis:
            return rows
        n, before = len(shape), range(len(shape) + 1, len(shape) + 1 + axis)
        return op.transpose(rows, perm=(0, *before, *range(1, n + 1), *range(n + 1 + axis, rows.type.rank)))

    def _column(self, node: Node) -> Value | None:
        """The indices [S] of elements that are gathered, where all other axes are whole and alike."""
        x, at, axis = node["x"], node["indices"], node["x"].type.axis(node.op.axis)  # type: ignore[attr-defined]
        whole = self._axes(at) == [axis] and not self._axes(x)
        whole = whole and all(n == m for i, (n, m) in enumerate(zip(x.shape, at.shape, strict=True)) if i != axis)
        while at.node is not None and at.shape != (self.length,):
            views = isinstance(at.op, BroadcastTo) or (
                isinstance(at.op, _VIEWS) and unit_axes(at.node["x"].shape, at.shape) is not None
            )
            if not views:
                return None
            at = at.node["x"]
        return at if whole and at.node is not None else None

    def _looked_up(self, op: Ops, node: Node) -> Value:
        if isinstance(node.op, GatherElements):
            column = self._column(node)
            assert column is not None
            at = self.anew(op, column)
            return self._gathered(op, node["x"], at, (self.length,), node["x"].type.axis(node.op.axis))
        table, at = (node["w"], node["ids"]) if isinstance(node.op, Embedding) else (node["x"], node["indices"])
        if not self._axes(at):  # what is looked up in counts
            axis = table.type.axis(node.op.axis)  # type: ignore[attr-defined]  # a gather
            return op.gather(self._view(op, self.anew(op, table), self._full(table)), at, axis=axis + 1)
        if isinstance(node.op, Embedding):
            return op.again(node, ids=bare(self.anew(op, at)))
        if isinstance(node.op, GatherNd):
            return op.again(node, indices=self._view(op, self.anew(op, at), self._full(at)))
        axis = table.type.axis(node.op.axis)  # type: ignore[attr-defined]  # a gather
        return self._gathered(op, table, self.anew(op, at), at.shape, axis)

    def _product(self, op: Ops, node: Node) -> Value:
        """[B, *shape of the result]"""
        rank = node.out.type.rank + 1
        given = [
            behind_batch(op, self._view(op, self.anew(op, v), self._full(v)), rank) if self._axes(v) else v
            for v in node.operands
        ]
        return op.emit(node.op, given)

    def _along(self, op: Ops, node: Node) -> Sequence[Value]:
        """[B, *shape of each result]"""
        given = []
        for v in node.operands:
            if self._axes(v):
                given.append(self._view(op, self.anew(op, v), self._full(v)))
            else:
                given.append(op.broadcast_to(v, shape=self._full(v)))
        if isinstance(node.op, Transpose):
            changed = node.op.changed(perm=(0, *(i + 1 for i in node.op.perm)))
            return [op.emit(changed, given)]
        assert isinstance(node.op, Concat | Slice | Split)
        axis = node.op.axis if node.op.axis < 0 else node.op.axis + 1
        made = op.emit(node.op.changed(axis=axis), given)
        assert made.node is not None
        return made.node.outputs

    def _full(self, value: Value) -> tuple[Dim, ...]:
        return (self.batch, *value.shape)

    def _view(self, op: Ops, value: Value, shape: tuple[Dim, ...]) -> Value:
        """The value in a shape, by axes of size 1 that go or come where that is all."""
        while value.node in op.made and isinstance(value.op, _VIEWS):
            value = value.node["x"]
        if value.shape == shape:
            return value
        axes = unit_axes(value.shape, shape)
        if axes is None:
            return op.reshape(value, shape=shape)
        dropped, added = axes
        value = op.squeeze(value, axes=dropped) if dropped else value
        return op.unsqueeze(value, axes=added) if added else value


def behind_batch(op: Ops, value: Value, rank: int) -> Value:
    """value[B, …] with unit axes behind B, so that it has so many."""
    more = rank - value.type.rank
    return op.unsqueeze(value, axes=tuple(range(1, 1 + more))) if more > 0 else value


def bare(ids: Value) -> Value:
    """Ids as they were before casts from integers to wider ones."""
    while ids.node is not None and isinstance(ids.op, Cast):
        x = ids.node["x"]
        if not x.type.is_integer or NUMPY[x.dtype].itemsize > NUMPY[ids.dtype].itemsize:
            break
        ids = x
    return ids
