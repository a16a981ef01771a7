"""recover-views: a gather at every index, in order, is the tensor itself."""

from __future__ import annotations

from collections.abc import Iterator

from burnish.ir.builder import Ops
from burnish.ir.dims import Dim
from burnish.ir.graph import Node, Value
from burnish.ir.ops.shape import BroadcastTo, Concat, GatherNd, Iota, Unsqueeze
from burnish.passes.engine import Match, RewritePass, Rule

_DROPPED = -1


class GatherAtEveryIndex(Rule):
    """gather_nd(x, concat(0, 1, … along one axis, 0, 1, … along another, …)) -> x with its axes put there"""

    at = (GatherNd,)
    example = """module {
      graph forward(%x: f32[2, 3]) {
        %0: i32[3] = iota(size=3) <- "iota"
        %1: i32[3, 1] = unsqueeze(%0, axes=[1]) <- "column"
        %2: i32[2] = iota(size=2) <- "rows"
        %3: i32[2, 1, 1] = unsqueeze(%2, axes=[1, 2]) <- "row"
        %4: i32[2, 3, 1] = broadcast_to(%3, shape=[2, 3, 1]) <- "each row"
        %5: i32[2, 3, 1] = broadcast_to(%1, shape=[2, 3, 1]) <- "each column"
        %6: i32[2, 3, 2] = concat(%4, %5, axis=-1) <- "indices"
        %7: f32[2, 3] = gather_nd(%x, %6) <- "gather"
        return y=%7
      }
    }"""

    def find(self, node: Node) -> Iterator[Match]:
        places = _places(node)
        if places is not None:
            yield Match({"x": node["x"], "places": places}, [node], list(node.outputs), [])

    def build(self, op: Ops, x: Value, places: list[int], out: Value) -> Value:
        shape = out.shape
        dropped = tuple(i for i, p in enumerate(places) if p == _DROPPED)
        x = op.squeeze(x, axes=dropped) if dropped else x
        added = tuple(i for i in range(len(shape)) if i not in places)
        x = op.unsqueeze(x, axes=added) if added else x
        return x if x.shape == shape else op.broadcast_to(x, shape=shape)


class RecoverViews(RewritePass):
    """A gather at every index, in order, becomes the tensor itself."""

    rules = (GatherAtEveryIndex,)


def _places(node: Node) -> list[int] | None:
    """For each axis of what is gathered, the axis of the result along which it lies, or that it is dropped."""
    x, indices = node["x"], node["indices"]
    if indices.node is None or not isinstance(indices.op, Concat) or indices.op.axis not in (-1, indices.type.rank - 1):
        return None
    places = [_place(part, size) for part, size in zip(indices.node.operands, x.shape, strict=False)]
    found = [p for p in places if p is not None]
    kept = [p for p in found if p != _DROPPED]
    return found if len(found) == x.type.rank and kept == sorted(set(kept)) else None


def _place(indices: Value, size: Dim) -> int | None:
    """The axis along which these indices count from 0 to size - 1, the same along all others; None if they do not."""
    if indices.literal is not None and size == 1 and not indices.literal.any():
        return _DROPPED
    op = indices.op
    if isinstance(op, Iota):
        return 0 if op.size == size else None
    if indices.node is None or not isinstance(op, Unsqueeze | BroadcastTo):
        return None
    inner = indices.node["x"]
    place = _place(inner, size)
    if place is None or place == _DROPPED:
        return place
    if isinstance(op, Unsqueeze):
        return [i for i in range(indices.type.rank) if i not in op.axes][place]
    return place + indices.type.rank - inner.type.rank
