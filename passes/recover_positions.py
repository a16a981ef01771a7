"""recover-positions: counting from 0 to the number of tokens is their positions."""

from __future__ import annotations

from functools import partial

import numpy as np

from burnish.ir.builder import Ops
from burnish.ir.dims import Dim
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.module import Module
from burnish.ir.ops.attention import Rope
from burnish.ir.ops.elementwise import Add
from burnish.ir.ops.linear import Embedding
from burnish.ir.ops.shape import BroadcastTo, Iota, Slice, Unsqueeze
from burnish.passes.engine import Context, Pass


class RecoverPositions(Pass):
    """rope(x, 0, 1, …, S - 1) -> rope(x, positions(ids)); x + embedding(0, 1, …, S - 1) likewise

    Where positions were cut from a table, the slice's guard stays: there are no more tokens than it has rows.
    """

    def run(self, module: Module, ctx: Context) -> None:
        for graph in module.every_graph:
            for node in graph:
                if isinstance(node.op, Rope):
                    self._rotated(graph, node, ctx)
                elif isinstance(node.op, Add):
                    self._added(graph, node, ctx)

    def _rotated(self, graph: Graph, node: Node, ctx: Context) -> None:
        x, positions, inv_freq = node.operands
        ids = _tokens(graph, x.shape[:2])
        counted = _count(positions)
        if ids is not None and counted is not None and counted == ids.shape[1]:
            ctx.rewrite("RopePositions", [node], node.outputs, lambda op: op.rope(x, op.positions(ids), inv_freq))

    def _added(self, graph: Graph, node: Node, ctx: Context) -> None:
        x, table = node.operands
        if table.node is None or not isinstance(table.op, Embedding):
            return
        at = table.node.operands[0]
        ids = _tokens(graph, x.shape[:2])
        counted = _count(at)
        if ids is None or counted is None or counted != ids.shape[1] or x.shape != node.out.shape:
            return
        build = partial(_embedded, x=x, table=table, ids=ids)
        ctx.rewrite("EmbeddedPositions", [table.node, node], node.outputs, build)


def _tokens(graph: Graph, shape: tuple[Dim, ...]) -> Value | None:
    """The input of tokens of that shape."""
    return next((v for v in graph.inputs if v.type.is_integer and v.shape == shape), None)


def _count(positions: Value) -> Dim | None:
    """n, where the rows of [1 or B, n] are 0, 1, …, n - 1; else None."""
    value, n = positions, positions.shape[-1] if positions.type.rank else None
    while value.node is not None and isinstance(value.op, Unsqueeze | BroadcastTo) and value.shape[-1] == n:
        value = value.node.operands[0]
    if isinstance(value.op, Iota):
        return n
    return n if _cut_from_count(positions) else None


def _cut_from_count(positions: Value) -> bool:
    """Whether they are the first ones of a table 0, 1, 2, …"""
    node = positions.node
    if node is None or not isinstance(node.op, Slice) or node.op.start != 0:
        return False
    data = node.operands[0].literal
    if data is None or node.op.axis % data.ndim != data.ndim - 1:
        return False
    return bool((data == np.arange(data.shape[-1])).all())


def _embedded(op: Ops, x: Value, table: Value, ids: Value) -> Value:
    assert table.node is not None and table.op is not None
    return op.add(x, op.emit(table.op, [op.positions(ids), table.node.operands[1]]))
