"""Modules: what a frontend makes, passes rewrite and backends run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.ir.graph import Constant, Graph
from burnish.ir.guards import AllTrue, Guard
from burnish.ir.literal import Literal
from burnish.ir.origin import Origin
from burnish.ir.types import InferError, Type

if TYPE_CHECKING:
    from burnish.ir.weights import WeightSource

__all__ = ["Module", "WeightEntry"]


@dataclass(frozen=True, slots=True)
class WeightEntry:
    """A row of the table of weights: the tensor's type and, where a package renamed it, what it was made from."""

    type: Type
    origin: Origin = field(default_factory=Origin)


@dataclass(eq=False)
class Module:
    """A model: its weights, what was assumed of its symbols, its graphs, and facts of use to those who run it.

    `source` reads the weights' data; a module without it can be printed and rewritten, but not run.
    """

    weights: dict[str, WeightEntry] = field(default_factory=dict)
    guards: list[Guard] = field(default_factory=list)
    graphs: dict[str, Graph] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    source: WeightSource | None = None

    def graph(self, name: str) -> Graph:
        """Add an empty graph."""
        if name in self.graphs:
            raise InferError(f"the module has two graphs called {name!r}")
        self.graphs[name] = Graph(self, name)
        return self.graphs[name]

    @property
    def every_graph(self) -> list[Graph]:
        """The graphs and all the bodies in them."""
        return _with_bodies(self.graphs.values())

    def normalize(self) -> None:
        """Put every graph into the normal form."""
        for graph in self.graphs.values():
            graph.normalize()

    def literals(self) -> Iterator[Literal]:
        """The values of all constants, those of guards too."""
        assumed = _with_bodies(g.graph for g in self.guards if isinstance(g, AllTrue))
        for graph in [*self.every_graph, *assumed]:
            yield from (node.op.value for node in graph if isinstance(node.op, Constant))

    def constants(self) -> dict[str, np.ndarray]:
        """The constants that are not written inline, by their sha."""
        return {v.sha: v.data for v in self.literals() if v.inline is None and v.has_data}

    def __str__(self) -> str:
        from burnish.ir.text import module_text

        return module_text(self)

    def __eq__(self, other: object) -> bool:
        from burnish.ir.structure import same_module

        return isinstance(other, Module) and same_module(self, other)

    __hash__ = None  # type: ignore[assignment]  # mutable


def _with_bodies(graphs: Iterable[Graph]) -> list[Graph]:
    found, work = [], list(graphs)
    while work:
        graph = work.pop(0)
        found.append(graph)
        work += [b for node in graph for b in node.bodies]
    return found
