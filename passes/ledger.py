"""Every change is accounted for: what a module was, by identity, and what the door has made of it since."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from burnish.ir.graph import Graph, Node
from burnish.ir.module import Module
from burnish.ir.text import neighbourhood
from burnish.ir.walk import every_graph

__all__ = ["Ledger"]


@dataclass
class Ledger:
    """Each node, graph and table of a module as the door has left it.

    `touched` holds what the door has changed since the last `close`: the nodes that are to be verified, by graph.
    """

    module: Module
    nodes: dict[Node, tuple[Any, ...]] = field(default_factory=dict)
    graphs: dict[Graph, tuple[Any, ...]] = field(default_factory=dict)
    tables: tuple[Any, ...] = ()
    touched: dict[Graph, dict[Node, None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reopen()
        self.touched.clear()

    def reopen(self) -> None:
        """Take the module as it is; what differs from before counts as changed by the door."""
        before, self.nodes, self.graphs = self.nodes, {}, {}
        for graph in self.module.every_graph_and_guard:
            self.graphs[graph] = _signature(graph)
            for node in graph:
                self.nodes[node] = _entry(node)
                if before.get(node) != self.nodes[node]:
                    self.touched.setdefault(graph, {})[node] = None
            self.touched.setdefault(graph, {})
        self.tables = _tables(self.module)

    def changed(self, graph: Graph, nodes: Iterable[Node], erased: Iterable[Node] = ()) -> None:
        """The door has made or changed these nodes of a graph, and taken those away."""
        touched = self.touched.setdefault(graph, {})
        nodes, erased = list(nodes), list(erased)
        held = list(every_graph(b for n in nodes if n.graph is not None for b in n.bodies))
        for body in every_graph(b for n in erased for b in n.bodies):
            if body not in held:
                self.graphs.pop(body, None)
                for node in body:
                    self.nodes.pop(node, None)
        self.opened(held)
        for node in nodes:
            if node is graph.ret:
                self.graphs[graph] = _signature(graph)
            elif node.graph is graph:
                self.nodes[node] = _entry(node)
                touched[node] = None
        for node in erased:
            self.nodes.pop(node, None)
            touched.pop(node, None)

    def opened(self, graphs: Iterable[Graph]) -> None:
        """The door has brought these graphs, unless it knows them."""
        for graph in every_graph(graphs):
            if graph not in self.graphs:
                self.graphs[graph] = _signature(graph)
                self.changed(graph, graph)

    def retabled(self) -> None:
        """The door has changed what belongs to the module as a whole: guards or facts."""
        self.tables = _tables(self.module)

    def table_fault(self) -> str | None:
        """Which table differs from what the door has left."""
        now = _tables(self.module)
        for what, a, b in zip(("graphs", "weights", "guards", "facts", "source"), self.tables, now, strict=True):
            if a != b:
                return f"the module's {what} were changed"
        return None

    def fault(self, nodes: Iterable[Node] | None = None) -> str | None:
        """What differs from what the door has left, among some nodes or anywhere; None where nothing does."""
        if nodes is not None:
            return next((f for n in nodes if (f := self._node(n))), None)
        found: dict[Node, None] = {}
        for graph in self.module.every_graph_and_guard:
            if graph not in self.graphs:
                return f"graph {graph.name} was added"
            reads = len(graph.ret.operands) - sum([len(v.uses) for v in graph.inputs])
            for node in graph:
                found[node] = None
                reads += len(node.operands) - sum([len(o.uses) for o in node.outputs])
                if fault := self._node(node):
                    return fault
            if reads:
                return f"the recorded uses of values of graph {graph.name} were changed"
            if _signature(graph) != self.graphs[graph]:
                return f"the inputs or outputs of graph {graph.name} were changed"
        if (fault := self.table_fault()) is not None:
            return fault
        lost = next((n for n in self.nodes if n not in found), None)
        return f"a node was erased: {lost!r}" if lost is not None else None

    def verified(self) -> None:
        """All nodes, as they are now, were found sound: none of them need be verified again."""
        for nodes in self.touched.values():
            nodes.clear()

    def close(self) -> dict[Graph, list[Node]]:
        """What was touched since the last time, by graph."""
        touched = {g: [n for n in nodes if n.graph is g] for g, nodes in self.touched.items() if g in self.graphs}
        self.touched.clear()
        return touched

    def _node(self, node: Node) -> str | None:
        known, now = self.nodes.get(node), _entry(node)
        if known is not None and known == now:
            return None
        graph = node.graph
        if graph is not None and node is graph.ret:
            same = _signature(graph) == self.graphs.get(graph)
            return None if same else f"the outputs of graph {graph.name} were changed"
        if known is None:
            return f"a node was made\n{neighbourhood(node)}"
        parts = zip(("graph", "op", "operands", "types", "graphs", "origin"), known, now, strict=True)
        what = next(part for part, a, b in parts if a != b)
        return f"the {what} of a node were changed\n{neighbourhood(node)}"


def _entry(node: Node) -> tuple[Any, ...]:
    outputs = tuple([(o, o.type, o.node is node) for o in node.outputs])
    return node.graph, node.op, tuple(node.inputs), outputs, node.bodies, node.origin


def _signature(graph: Graph) -> tuple[Any, ...]:
    inputs = tuple([(v, v.name, v.type, v.role) for v in graph.inputs])
    return graph.name, inputs, tuple(graph.output_names), dict(graph.roles), tuple(graph.ret.inputs)


def _tables(module: Module) -> tuple[Any, ...]:
    graphs, weights = list(module.graphs.items()), list(module.weights.items())
    return graphs, weights, list(module.guards), module.facts, id(module.source)
