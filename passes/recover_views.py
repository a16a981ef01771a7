"""recover-views: a gather at every index, in order, is the tensor itself."""

from __future__ import annotations

from functools import partial

from burnish.ir.builder import Ops
from burnish.ir.dims import Dim
from burnish.ir.graph import Node, Value
from burnish.ir.module import Module
from burnish.ir.ops.shape import BroadcastTo, Concat, GatherNd, Iota, Unsqueeze
from burnish.passes.engine import Context, Pass

_DROPPED = -1


class RecoverViews(Pass):
    """gather_nd(x, concat(0, 1, … along one axis, 0, 1, … along another, …)) -> x with its axes put there"""

    def run(self, module: Module, ctx: Context) -> None:
        for graph in module.every_graph:
            for node in graph:
                places = _places(node)
                if places is not None:
                    ctx.rewrite("GatherAtEveryIndex", [node], node.outputs, partial(_view, node=node, places=places))


def _places(node: Node) -> list[int] | None:
    """For each axis of what is gathered, the axis of the result along which it lies, or that it is dropped."""
    if not isinstance(node.op, GatherNd):
        return None
    x, indices = node.operands
    if indices.node is None or not isinstance(indices.op, Concat) or indices.op.axis not in (-1, indices.type.rank - 1):
        return None
    parts = indices.node.operands
    places = [_place(part, size) for part, size in zip(parts, x.shape, strict=False)]
    found = [p for p in places if p is not None]
    kept = [p for p in found if p != _DROPPED]
    return found if len(found) == x.type.rank and kept == sorted(set(kept)) else None


def _place(indices: Value, size: Dim) -> int | None:
    """The axis along which these indices count from 0 to size - 1, the same along all others; None if they do not."""
    if indices.literal is not None and size == 1 and not indices.literal.any():
        return _DROPPED
    op, inner = indices.op, indices.node.operands[0] if indices.node is not None and indices.node.inputs else None
    if isinstance(op, Iota):
        return 0 if op.size == size else None
    if inner is None or not isinstance(op, Unsqueeze | BroadcastTo):
        return None
    place = _place(inner, size)
    if place is None or place == _DROPPED:
        return place
    if isinstance(op, Unsqueeze):
        return [i for i in range(indices.type.rank) if i not in op.axes][place]
    return place + indices.type.rank - inner.type.rank


def _view(op: Ops, node: Node, places: list[int]) -> Value:
    x, shape = node.operands[0], node.out.shape
    dropped = tuple(i for i, p in enumerate(places) if p == _DROPPED)
    x = op.squeeze(x, axes=dropped) if dropped else x
    added = tuple(i for i in range(len(shape)) if i not in places)
    x = op.unsqueeze(x, axes=added) if added else x
    return x if x.shape == shape else op.broadcast_to(x, shape=shape)
