"""canonicalize: constants computed, equal nodes joined, dead nodes erased."""

from __future__ import annotations

from functools import partial

import numpy as np

from burnish.ir.builder import Ops
from burnish.ir.evaluate import evaluate
from burnish.ir.graph import Constant, Graph, Node, Value
from burnish.ir.module import Module
from burnish.ir.origin import Origin
from burnish.passes.engine import Context, Pass

_LARGEST = 1 << 16  # elements; more is weight-time work, which is done when a package is written


class Canonicalize(Pass):
    """f(constants) -> constant; two equal nodes -> one; a node that nothing reads -> none"""

    def run(self, module: Module, ctx: Context) -> None:
        for graph in module.every_graph:
            self._dead(graph, ctx)
            self._fold(graph, ctx)
            self._join(graph, ctx)

    def _dead(self, graph: Graph, ctx: Context) -> None:
        for node in reversed(graph.order()):
            if node.graph is not None and not any(o.uses for o in node.outputs):
                if node.is_leaf:
                    graph.erase(node)
                else:
                    ctx.rewrite("DeadCode", [node], [], lambda op: ())

    def _fold(self, graph: Graph, ctx: Context) -> None:
        for node in graph.order():
            if node.is_leaf or node.bodies or node.time != "weight" or node.graph is None:
                continue
            literals = [v.literal for v in node.operands]
            if any(x is None for x in literals) or any(o.type.format for o in node.outputs):
                continue
            if sum(int(np.prod(o.type.sizes)) for o in node.outputs) > _LARGEST:
                continue
            operands = [v.literal if v is not None else None for v in node.inputs]
            results = evaluate(node.op, np, operands, [o.dtype for o in node.outputs])
            ctx.rewrite("Fold", [node], node.outputs, partial(_constants, results=results))

    def _join(self, graph: Graph, ctx: Context) -> None:
        seen: dict[tuple[object, ...], Node] = {}
        for node in graph.order():
            if node.bodies or isinstance(node.op, Constant):
                continue
            operands: tuple[Value | None, ...] = tuple(node.inputs)
            key = (node.op, operands, tuple(o.type for o in node.outputs))
            first = seen.setdefault(key, node)
            if first is node:
                continue
            origin = Origin.union([first.origin, node.origin], "CommonSubexpression")
            if ctx.rewrite("CommonSubexpression", [node], node.outputs, partial(_results, of=first)) is not None:
                first.origin = origin


def _constants(op: Ops, results: tuple[np.ndarray, ...]) -> list[Value]:
    return [op.constant(np.asarray(r)) for r in results]


def _results(op: Ops, of: Node) -> tuple[Value, ...]:
    return of.outputs
