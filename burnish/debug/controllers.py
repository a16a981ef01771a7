"""Controllers, which decide about applications, and observers, which watch them: the tools at the one door.

A controller answers None to apply, or the reason to skip; see `burnish.passes.engine.Controller`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from burnish.ir.graph import Graph, Node
from burnish.ir.module import Module
from burnish.ir.text import Names, statements
from burnish.passes.engine import Application, Controller, Pass

__all__ = ["All", "Fuel", "Only", "PrintChanges", "Record", "Skip"]


@dataclass
class Skip:
    """Skips passes by name and applications by id. `used` tells which names met something."""

    names: Collection[str]
    used: set[str] = field(default_factory=set)

    def __call__(self, application: Application) -> str | None:
        """The reason, where the pass or the application is among the names."""
        met = {application.id, application.pass_name} & set(self.names)
        self.used |= met
        return f"skipped: {met.pop()}" if met else None


@dataclass
class Fuel:
    """Allows the first `amount` applications, each counted once however often it is asked for."""

    amount: int
    allowed: set[str] = field(default_factory=set)

    def __call__(self, application: Application) -> str | None:
        """The reason, once the fuel is spent."""
        if application.id not in self.allowed:
            if len(self.allowed) >= self.amount:
                return f"out of fuel after {self.amount}"
            self.allowed.add(application.id)
        return None


@dataclass
class Only:
    """Allows the applications with these ids."""

    ids: Collection[str]

    def __call__(self, application: Application) -> str | None:
        """The reason, for all others."""
        return None if application.id in self.ids else "not among those that are tried"


@dataclass
class Record:
    """Asks another controller, and keeps what it allowed, each once, in order."""

    controller: Controller
    allowed: dict[str, Application] = field(default_factory=dict)

    def __call__(self, application: Application) -> str | None:
        """The other controller's answer."""
        reason = self.controller(application)
        if reason is None:
            self.allowed.setdefault(application.id, application)
        return reason


@dataclass
class All:
    """Asks several controllers in turn; the first reason counts."""

    controllers: Sequence[Controller]

    def __call__(self, application: Application) -> str | None:
        """The first reason."""
        return next((r for c in self.controllers if (r := c(application)) is not None), None)


class PrintChanges:
    """Tells each application as the statements that it took away and made: lines that begin with - and +.

    Values keep their names from one application to the next, and what replaces one takes its name (`Names`), so that
    only what changed is told. `only` restricts it to some ids; `provenance` tells where statements come from too.
    """

    def __init__(
        self,
        tell: Callable[[Application, str], None],
        module: Module,
        only: Collection[str] = (),
        provenance: bool = False,
    ) -> None:
        self.tell, self.only, self.provenance = tell, only, provenance
        self.names = Names()
        self._look(module)

    def applied(self, application: Application, module: Module, made: Sequence[Node]) -> None:
        """The difference that it made."""
        for graph in module.every_graph:
            for node in [*graph, graph.ret]:
                for old, new in zip(self.read.get(node, ()), node.inputs, strict=False):
                    if old is not None and new is not None and old.node is not None and old.node.graph is None:
                        self.names.hand_over(old, new)
        before = self.lines
        self._look(module)
        if not self.only or application.id in self.only:
            self.tell(application, "\n".join(_difference(before, self.lines)))

    def after_pass(self, pass_: Pass, module: Module) -> None:
        """Restoring the normal form is nobody's application."""
        self._look(module)

    def _look(self, module: Module) -> None:
        graphs = module.every_graph
        self.lines = {graph: statements(graph, self.names, self.provenance) for graph in graphs}
        self.read = {node: tuple(node.inputs) for graph in graphs for node in [*graph, graph.ret]}


def _difference(before: Mapping[Graph, list[str]], after: Mapping[Graph, list[str]]) -> Iterator[str]:
    """The lines that are not in both, those of one place together; a graph has no line twice."""
    for graph in {**before, **after}:
        old, new = before.get(graph, []), after.get(graph, [])
        gone = _apart(old, "- ", frozenset(new))
        come = _apart(new, "+ ", frozenset(old))
        for line in ["", *new]:
            yield from gone.get(line, ())
            yield from come.get(line, ())


def _apart(lines: Sequence[str], mark: str, kept: Collection[str]) -> dict[str, list[str]]:
    """The marked lines that are not kept, by the last kept line before them."""
    found: dict[str, list[str]] = {}
    place = ""
    for line in lines:
        if line in kept:
            place = line
        else:
            found.setdefault(place, []).append(mark + line)
    return found
