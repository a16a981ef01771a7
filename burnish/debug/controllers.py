"""Controllers, which decide about applications, and observers, which watch them: the tools at the one door.

A controller answers None to apply, or the reason to skip; see `burnish.passes.engine.Controller`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from burnish.ir.graph import Node
from burnish.ir.module import Module
from burnish.passes.engine import Application, Controller, Pass

__all__ = ["All", "Fuel", "Only", "PrintChanges", "Record", "Skip", "graphs_text"]


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


@dataclass
class PrintChanges:
    """Tells each application as a unified diff of the graphs' text. `only` restricts it to some ids."""

    tell: Callable[[Application, str], None]
    before: str
    only: Collection[str] = ()

    def applied(self, application: Application, module: Module, made: Sequence[Node]) -> None:
        """The difference that it made."""
        after = graphs_text(module)
        if not self.only or application.id in self.only:
            self.tell(application, _difference(self.before, after))
        self.before = after

    def after_pass(self, pass_: Pass, module: Module) -> None:
        """Restoring the normal form is nobody's application."""
        self.before = graphs_text(module)


def graphs_text(module: Module) -> str:
    """The text of every graph, without the table of weights."""
    return "\n".join(map(str, module.graphs.values()))


def _difference(before: str, after: str) -> str:
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1))
    return "\n".join(lines[2:])  # without the names of files
