"""last-row: logits of each sequence's last token only."""

from __future__ import annotations

from functools import partial

from burnish.ir.builder import Ops
from burnish.ir.dims import symbols_of
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.guards import AtMost
from burnish.ir.module import Module
from burnish.ir.origin import Origin
from burnish.ir.signature import COUNT, LOGITS, PAST, TOKENS
from burnish.ir.types import Type
from burnish.passes.engine import Context, Pass, Rule


class TakeLastRow(Rule):
    """logits[B, S, V] -> logits[B, 1, V], row count[b] - 1"""

    exactness = "rounding"  # a product of one row adds up in another order


class LastRow(Pass):
    """logits[B, S, V] -> logits[B, 1, V], row count[b] - 1: what follows the last mixing of tokens runs on one row

    Of graphs that go on from a past: in others, every token's logits say something of that token.
    """

    rules = (TakeLastRow,)

    def run(self, module: Module, ctx: Context) -> None:
        for graph in module.graphs.values():
            logits, tokens = graph.output_for(LOGITS), graph.input_for(TOKENS)
            if graph.input_for(PAST) is None or logits is None or tokens is None:
                continue
            if logits.type.rank == 3 and logits.shape[:2] == tokens.shape:
                ctx.restructure(TakeLastRow(), graph, partial(_take_last, graph=graph, logits=logits))


def _take_last(op: Ops, graph: Graph, logits: Value) -> None:
    count = graph.input_for(COUNT) or graph.input(graph.free_name(COUNT.name), Type("i32", (logits.shape[0],)), COUNT)
    cut, chain = logits, list[tuple[Node, str]]()
    while (node := cut.node) is not None and (name := _rows_of(node, logits)) is not None:
        chain.append((node, name))
        cut = node[name]
    op.assume(AtMost(1, cut.shape[1]))
    row = op.last_row(cut, count)
    for node, name in reversed(chain):
        with op.at(Origin.union([node.origin], TakeLastRow.__name__)):
            row = op.again(node, **{name: row})
    graph.set_outputs({k: row if v is logits else v for k, v in graph.outputs.items()})


def _rows_of(node: Node, logits: Value) -> str | None:
    """The operand of which each row [B, S] gives the same row of the result, if nothing else is known at run time."""
    types = [None if v is None else v.type for v in node.inputs]
    varying = [i for i, v in enumerate(node.inputs) if v is not None and v.time == "run"]
    sizes = {s for d in logits.shape[:2] for s in symbols_of(d)} & node.op.symbols
    if len(varying) != 1 or len(node.outputs) != 1 or sizes:
        return None
    (at,) = varying
    type, along = types[at], node.op.along(*types)[at]
    good = type is not None and type.shape[:2] == logits.shape[:2] and along[:2] == (0, 1)
    return node.op.operand(at) if good else None
