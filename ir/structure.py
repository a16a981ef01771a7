"""What it means for graphs to be equal, apart from their text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from burnish.ir.guards import AllTrue
from burnish.ir.leaves import Constant, Weight
from burnish.ir.origin import Origin
from burnish.ir.text import is_inline
from burnish.ir.walk import above

if TYPE_CHECKING:
    from burnish.ir.graph import Graph, Node, Value
    from burnish.ir.module import Module

__all__ = ["Identities", "same_module", "structure"]


class Identities:
    """Numbers for values, the same for values that are computed alike from the same weights, in whatever graph.

    Graphs that are numbered with the same `numbers` must be of forms of one module.
    """

    def __init__(self, numbers: dict[object, int] | None = None) -> None:
        self.known: dict[Value, int] = {}
        self.numbers = {} if numbers is None else numbers

    def of(self, value: Value) -> int:
        """The number of a value that depends on no input."""
        if value not in self.known:
            for node in above([value], self.known):
                operands = tuple(None if v is None else self.known[v] for v in node.inputs)
                alike = node if node.bodies else node.op  # bodies are not compared
                for o in node.outputs:
                    self.known[o] = self.numbers.setdefault((alike, o.index, o.type, operands), len(self.numbers))
        return self.known[value]


def structure(graph: Graph, *, names: bool = True, provenance: bool = True) -> tuple[Any, ...]:
    """Everything that makes two graphs equal, as a tuple: ops, attributes, types, operands, and where asked names.

    Without `names`, weights and inputs are told apart by their first use only, so that models from different
    sources can be compared; without `provenance`, where a node came from does not count.
    """
    number: dict[Value, int] = {v: i for i, v in enumerate(graph.inputs)}
    inputs = [(v.name if names else "", v.type, v.role) for v in graph.inputs]
    rows: list[Any] = [graph.name if names else "", inputs]

    def add(node: Node) -> None:
        for o in node.outputs:
            number[o] = len(number)
        rows.append(_row(node, number, names, provenance))

    for node in [*graph.order(), graph.ret]:
        for v in node.operands:  # a leaf that is written inline is where it is first read
            if v.node is not None and v not in number and is_inline(v.node):
                add(v.node)
        if node is not graph.ret and not is_inline(node):
            add(node)
    outputs = [(k if names else "", number[v], graph.roles.get(k)) for k, v in graph.outputs.items()]
    return (*rows, outputs)


def _row(node: Node, number: dict[Value, int], names: bool, provenance: bool) -> Any:
    op: Any = node.op if names or not isinstance(node.op, Weight) else "weight"
    if isinstance(node.op, Constant):
        op = ("constant", node.op.value)
    operands = tuple(None if v is None else number.get(v, -1) for v in node.inputs)
    bodies = tuple(structure(b, names=names, provenance=provenance) for b in node.bodies)
    return op, operands, tuple(o.type for o in node.outputs), node.origin if provenance else Origin(), bodies


def same_module(a: Module, b: Module) -> bool:
    """Whether two modules are equal; the data of their weights does not count."""

    def guards(m: Module) -> list[Any]:
        return [(g.reason, structure(g.graph)) if isinstance(g, AllTrue) else g for g in m.guards]

    return (
        list(a.weights.items()) == list(b.weights.items())
        and a.facts == b.facts
        and guards(a) == guards(b)
        and list(a.graphs) == list(b.graphs)
        and all(structure(a.graphs[k]) == structure(b.graphs[k]) for k in a.graphs)
    )
