"""canonicalize: constants computed, equal nodes joined, dead nodes erased."""

from __future__ import annotations

import math
from functools import partial

from burnish.ir.builder import Ops
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.module import Module
from burnish.ir.op import Array
from burnish.ir.run import evaluate_numpy
from burnish.passes.engine import Context, Pass, Rule

_LARGEST = 1 << 16  # elements; more is weight-time work, which is done when a package is written


class DeadCode(Rule):
    """a node that nothing reads -> none"""


class Fold(Rule):
    """f(constants) -> constant"""


class CommonSubexpression(Rule):
    """f(x), f(x) -> one of them"""


class Canonicalize(Pass):
    """f(constants) -> constant; two equal nodes -> one; a node that nothing reads -> none"""

    rules = (DeadCode, Fold, CommonSubexpression)

    def run(self, module: Module, ctx: Context) -> None:
        for graph in module.every_graph:
            self._dead(graph, ctx)
            self._fold(graph, ctx)
            self._join(graph, ctx)

    def _dead(self, graph: Graph, ctx: Context) -> None:
        for node in reversed(graph.order()):
            if node.graph is not None and not any(o.uses for o in node.outputs):
                if node.is_leaf:
                    ctx.drop(node)
                else:
                    ctx.rewrite(DeadCode(), [node], [], lambda op: ())

    def _fold(self, graph: Graph, ctx: Context) -> None:
        for node in graph.order():
            if node.is_leaf or node.bodies or node.time != "weight" or node.graph is None:
                continue
            operands = [None if v is None else v.literal for v in node.inputs]
            if any(v is not None and x is None for v, x in zip(node.inputs, operands, strict=True)):
                continue
            if any(o.type.format for o in node.outputs) or _elements(node) > _LARGEST:
                continue
            results = evaluate_numpy(node.op, operands, [o.dtype for o in node.outputs], ())
            ctx.rewrite(Fold(), [node], node.outputs, partial(_constants, results=results))

    def _join(self, graph: Graph, ctx: Context) -> None:
        seen: dict[tuple[object, ...], Node] = {}
        for node in graph.order():
            if node.bodies or node.is_leaf:  # of leaves, a graph holds no two that are equal
                continue
            key = (node.op, tuple(node.inputs), tuple(o.type for o in node.outputs))
            first = seen.setdefault(key, node)
            if first is not node:
                ctx.merge(CommonSubexpression(), node, into=first)


def _elements(node: Node) -> int:
    return sum(math.prod(o.type.sizes) for o in node.outputs)


def _constants(op: Ops, results: tuple[Array, ...]) -> list[Value]:
    return [op.constant(r) for r in results]
