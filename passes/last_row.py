"""last-row: logits of each sequence's last token only."""

from __future__ import annotations

from functools import partial

from burnish.ir.builder import Ops
from burnish.ir.graph import Graph, Value
from burnish.ir.module import Module
from burnish.ir.ops.attention import Attention
from burnish.ir.origin import Origin
from burnish.ir.types import Type
from burnish.passes.engine import Context, Pass


class LastRow(Pass):
    """logits[B, S, V] -> logits[B, 1, V], row count[b] - 1: what follows the last mixing of tokens runs on one row

    Of graphs that attend causally: in others, every token's logits say something of that token.
    """

    exactness = "rounding"  # a product of one row adds up in another order

    def run(self, module: Module, ctx: Context) -> None:
        for graph in module.graphs.values():
            logits = graph.outputs.get("logits")
            causal = any(isinstance(n.op, Attention) and n.op.causal for n in graph)
            if causal and logits is not None and logits.type.rank == 3:
                ctx.restructure("LastRow", graph, partial(_take_last, graph=graph, logits=logits))


def _take_last(op: Ops, graph: Graph, logits: Value) -> None:
    count = graph.find_input("count") or graph.input("count", Type("i32", (logits.shape[0],)))
    cut, chain = logits, []
    while (node := cut.node) is not None and (node.op.elementwise or node.op.by_last_axis):
        x = node.inputs[0]
        others_fixed = all(v is None or v.time != "run" for v in node.inputs[1:])
        if x is None or not others_fixed or x.shape[:2] != logits.shape[:2] or len(node.outputs) != 1:
            break
        chain.append(node)
        cut = x
    row = op.last_row(cut, count)
    for node in reversed(chain):
        with op.at(Origin.union([node.origin], "LastRow")):
            row = op.emit(node.op, [row, *node.inputs[1:]])
    graph.set_outputs({k: row if v is logits else v for k, v in graph.outputs.items()})
