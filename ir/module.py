"""Modules: what a frontend makes, passes rewrite and backends run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from burnish.ir.builder import Ops
from burnish.ir.dims import Dim
from burnish.ir.graph import Graph, Value
from burnish.ir.guards import AllTrue, Guard
from burnish.ir.leaves import Constant
from burnish.ir.literal import Literal
from burnish.ir.origin import Origin
from burnish.ir.signature import TOKENS, Facts, Linked
from burnish.ir.structure import same_module
from burnish.ir.text import module_text
from burnish.ir.types import InferError, Type
from burnish.ir.walk import every_graph

if TYPE_CHECKING:
    from burnish.ir.weights import WeightSource

__all__ = ["Module", "WeightEntry", "copy_graph"]


@dataclass(frozen=True, slots=True)
class WeightEntry:
    """A row of the table of weights: the tensor's type and, where a package renamed it, what it was made from."""

    type: Type
    origin: Origin = field(default_factory=Origin)


@dataclass(eq=False)
class Module:
    """A model: its weights, what was assumed of its symbols, its graphs, and what is known of it.

    `source` reads the weights' data; a module without it can be printed and rewritten, but not run.
    """

    weights: dict[str, WeightEntry] = field(default_factory=dict)
    guards: list[Guard] = field(default_factory=list)
    graphs: dict[str, Graph] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    source: WeightSource | None = None

    def graph(self, name: str) -> Graph:
        """Add an empty graph."""
        if name in self.graphs:
            raise InferError(f"the module has two graphs called {name!r}")
        self.graphs[name] = self.body(name)
        return self.graphs[name]

    def body(self, name: str) -> Graph:
        """An empty graph that belongs to a node or to a guard."""
        graph = Graph(self, name)
        graph.ops = Ops(graph)
        return graph

    @property
    def feeders(self) -> dict[str, Graph]:
        """The graphs of which another reads what they have: encoders."""
        names = {v.role.graph for g in self.graphs.values() for v in g.inputs if isinstance(v.role, Linked)}
        return {name: graph for name, graph in self.graphs.items() if name in names}

    @property
    def main(self) -> Graph | None:
        """The graph that reads tokens and feeds no other."""
        own = (g for n, g in self.graphs.items() if n not in self.feeders and g.input_for(TOKENS) is not None)
        return next(own, None)

    @property
    def every_graph(self) -> list[Graph]:
        """The graphs and all the bodies in them."""
        return list(every_graph(self.graphs.values()))

    @property
    def every_graph_and_guard(self) -> list[Graph]:
        """Those of `every_graph`, and the graphs that guards hold."""
        return list(every_graph([*self.graphs.values(), *(g.graph for g in self.guards if isinstance(g, AllTrue))]))

    def normalize(self) -> None:
        """Put every graph into the normal form."""
        for graph in self.graphs.values():
            graph.normalize()

    def literals(self) -> Iterator[Literal]:
        """The values of all constants, those of guards too."""
        for graph in self.every_graph_and_guard:
            yield from (node.op.value for node in graph if isinstance(node.op, Constant))

    def constants(self) -> dict[str, np.ndarray]:
        """The constants that are not written inline, by their sha."""
        return {v.sha: v.data for v in self.literals() if v.inline is None and v.has_data}

    def copy(self) -> Module:
        """The same module again; the data of weights and constants is shared, not copied."""
        new = Module(dict(self.weights), [], {}, self.facts, self.source)
        for g in self.guards:
            new.guards.append(replace(g, graph=copy_graph(g.graph, new)) if isinstance(g, AllTrue) else g)
        new.graphs = {name: copy_graph(graph, new) for name, graph in self.graphs.items()}
        return new

    def __str__(self) -> str:
        return module_text(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Module) and same_module(self, other)

    __hash__ = None  # type: ignore[assignment]  # mutable


def copy_graph(graph: Graph, module: Module, sizes: Mapping[str, Dim] | None = None) -> Graph:
    """The same graph again, as a body that `module` holds, with the symbols that `sizes` names replaced."""
    new, sizes = module.body(graph.name), sizes or {}
    values: dict[Value, Value] = {}
    for v in graph.inputs:
        values[v] = new.input(v.name, v.type.bind(sizes), v.role)
    for node in graph.order():
        inputs = [None if v is None else values[v] for v in node.inputs]
        bodies = [copy_graph(b, module, sizes) for b in node.bodies]
        types = [o.type.bind(sizes) for o in node.outputs]
        made = new.emit(node.op.bind(sizes), inputs, types, node.origin, bodies)
        values.update(zip(node.outputs, made.outputs, strict=True))
    new.set_outputs({k: values[v] for k, v in graph.outputs.items()}, graph.roles)
    return new
