"""recover-positions: counting from 0 to the number of tokens is their positions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from burnish.ir.builder import Ops
from burnish.ir.dims import Dim
from burnish.ir.graph import Node, Value
from burnish.ir.ops.attention import Rope
from burnish.ir.ops.elementwise import Add
from burnish.ir.ops.linear import Embedding
from burnish.ir.ops.shape import BroadcastTo, Iota, Slice, Unsqueeze
from burnish.ir.signature import TOKENS
from burnish.passes.engine import Match, RewritePass, Rule


class RopePositions(Rule):
    """rope(x, 0, 1, …, S - 1) -> rope(x, positions(ids))"""

    at = (Rope,)
    example = """module {
      weights { @inv_freq: f32[2] }
      graph forward(%ids: i32[B, S] is tokens, %x: f32[B, S, 1, 4]) {
        %0: i32[S] = iota(size=S) <- "iota"
        %1: i32[1, S] = unsqueeze(%0, axes=[0]) <- "row"
        %2: f32[B, S, 1, 4] = rope(%x, %1, @inv_freq) <- "rope"
        return y=%2
      }
    }"""

    def find(self, node: Node) -> Iterator[Match]:
        ids, counted = _tokens(node["x"]), _count(node["positions"])
        if ids is not None and counted is not None and counted == ids.shape[1]:
            yield Match({"ids": ids}, [node], list(node.outputs), [])

    def build(self, op: Ops, ids: Value, out: Value) -> Value:
        assert out.node is not None
        return op.again(out.node, positions=op.positions(ids))


class EmbeddedPositions(Rule):
    """x + embedding(0, 1, …, S - 1) -> x + embedding(positions(ids))

    Where positions were cut from a table, the slice's guard stays: there are no more tokens than it has rows.
    """

    at = (Add,)
    example = """module {
      weights { @w: f32[9, 4] }
      graph forward(%ids: i32[B, S] is tokens, %x: f32[B, S, 4]) {
        %0: i32[S] = iota(size=S) <- "iota"
        %1: i32[1, S] = unsqueeze(%0, axes=[0]) <- "row"
        %2: f32[1, S, 4] = embedding(%1, @w) <- "embedding"
        %3: f32[B, S, 4] = add(%x, %2) <- "add"
        return y=%3
      }
    }"""

    def find(self, node: Node) -> Iterator[Match]:
        for x, table in ((node["a"], node["b"]), (node["b"], node["a"])):
            if table.node is None or not isinstance(table.op, Embedding) or x.shape != node.out.shape:
                continue
            ids, at = _tokens(x), table.node["ids"]
            counted = _count(at)
            if ids is not None and counted is not None and counted == ids.shape[1]:
                bindings = {"x": x, "table": table, "ids": ids}
                yield Match(bindings, [table.node, node], list(node.outputs), [])

    def build(self, op: Ops, x: Value, table: Value, ids: Value) -> Value:
        assert table.node is not None
        return op.add(x, op.again(table.node, ids=op.positions(ids)))


class RecoverPositions(RewritePass):
    """Counting from 0 to the number of tokens is their positions: what rotates x by them, or is added to it."""

    rules = (RopePositions, EmbeddedPositions)


def _tokens(x: Value) -> Value | None:
    """The tokens that stand along the first axes of a value."""
    ids = x.graph.input_for(TOKENS)
    return ids if ids is not None and ids.shape == x.shape[:2] else None


def _count(positions: Value) -> Dim | None:
    """n, where the rows of [1 or B, n] are 0, 1, …, n - 1; else None."""
    value, n = positions, positions.shape[-1] if positions.type.rank else None
    while value.node is not None and isinstance(value.op, Unsqueeze | BroadcastTo) and value.shape[-1] == n:
        value = value.node["x"]
    if isinstance(value.op, Iota):
        return n
    return n if _cut_from_count(positions) else None


def _cut_from_count(positions: Value) -> bool:
    """Whether they are the first ones of a table 0, 1, 2, …"""
    node = positions.node
    if node is None or not isinstance(node.op, Slice) or node.op.start != 0:
        return False
    data = node["x"].literal
    last = data is not None and node.op.axis % data.ndim == data.ndim - 1
    return bool(last and data is not None and (data == np.arange(data.shape[-1])).all())
