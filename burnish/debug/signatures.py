"""Does a pass leave a model's inputs and outputs what they were? By name, place, role and type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from burnish.ir.graph import Graph
from burnish.ir.module import Module
from burnish.ir.signature import COUNT, LOGITS, MASK, PAST, Earlier, Linked, Role, State
from burnish.ir.types import Type

__all__ = ["Signature"]

Port = tuple[str, Type, Role | None]


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of each graph, in order; which graphs feed another."""

    inputs: Mapping[str, Sequence[Port]]
    outputs: Mapping[str, Sequence[Port]]
    linked: frozenset[tuple[str, str]]  # (graph, output) that another graph reads

    @classmethod
    def of(cls, module: Module) -> Signature:
        """That of a module as it is now."""
        graphs = module.graphs
        return cls(
            {k: _inputs(g) for k, g in graphs.items()},
            {k: _outputs(g) for k, g in graphs.items()},
            frozenset(
                (v.role.graph, v.role.name) for g in graphs.values() for v in g.inputs if isinstance(v.role, Linked)
            ),
        )

    def fault(self, after: Signature, restructured: bool) -> str | None:
        """What a pass should not have changed.

        A pass that restructures graphs, as it declares by going through `Context.restructure`, may add what a session
        keeps and feeds (states, counts, links between graphs), change such, take away what came earlier, as a caller
        keeps it, and masks with it, and leave the last row of logits. The model's own inputs and outputs stay.
        """
        if list(self.outputs) != list(after.outputs):
            return f"the graphs are {', '.join(after.outputs)}; they were {', '.join(self.outputs)}"
        for what, olds, news in (("input", self.inputs, after.inputs), ("output", self.outputs, after.outputs)):
            for graph, old in olds.items():
                new = news[graph]
                if restructured:
                    old, new = self._own(graph, old), after._own(graph, new)
                if (fault := _difference(what, old, new, restructured)) is not None:
                    return f"graph {graph}: {fault}"
        return None

    def _own(self, graph: str, ports: Sequence[Port]) -> list[Port]:
        """Without what a session keeps and feeds, or a caller keeps in its place."""
        earlier = [(type, role) for _, type, role in self.inputs[graph] if isinstance(role, Earlier)]
        fed = (COUNT, PAST, MASK) if earlier else (COUNT, PAST)
        made = [p for p in ports if p[2] is not None or (graph, p[0]) not in self.linked]
        made = [p for p in made if p[2] is not None or not any(r.goes_on(t, p[1]) for t, r in earlier)]
        return [p for p in made if p[2] not in fed and not isinstance(p[2], State | Linked | Earlier)]


def _inputs(graph: Graph) -> list[Port]:
    return [(v.name, v.type, v.role) for v in graph.inputs]


def _outputs(graph: Graph) -> list[Port]:
    return [(k, v.type, graph.roles.get(k)) for k, v in graph.outputs.items()]


def _difference(what: str, old: Sequence[Port], new: Sequence[Port], restructured: bool) -> str | None:
    names, found = [p[0] for p in old], {p[0]: p for p in new}
    added = [p for p in new if p[0] not in names]
    for i, (name, type, role) in enumerate(old):
        if name not in found:
            other = next((p for p in added if p[1:] == (type, role)), new[i] if i < len(new) else None)
            if other is not None and other in added:
                return f"{what} {name} is called {other[0]} now"
            return f"{what} {name} is missing"
        _, now, its = found[name]
        if its != role:
            return f"{what} {name} is for {its or 'nothing'} now, and was for {role or 'nothing'}"
        if now != type and not (
            restructured and role == LOGITS and now == type.with_shape((type.shape[0], 1, *type.shape[2:]))
        ):
            return f"{what} {name} is {now} now, and was {type}"
    if added:
        return f"{what} {added[0][0]} was added"
    order = [p[0] for p in new if p[0] in names]
    return f"the {what}s are in another order: {', '.join(order)}" if order != names else None
