"""How far long work is. Whoever does it calls `progress(what, done, total)`; it does not print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from burnish.ir.graph import Node
from burnish.ir.module import Module
from burnish.passes.engine import Application, Pass

__all__ = ["PassesDone", "Progress"]

#: what is done, how much of it, and how much there is: 0 where that is not known; it ends when both are the same
Progress = Callable[[str, int, int], None]


@dataclass
class PassesDone:
    """An observer of the door: counts the passes of a pipeline."""

    passes: Sequence[Pass]
    progress: Progress
    done: int = 0

    def applied(self, application: Application, module: Module, made: Sequence[Node]) -> None:
        """A pass counts when it ends."""

    def after_pass(self, pass_: Pass, module: Module) -> None:
        """One more."""
        self.done += 1
        self.progress("passes", self.done, len(self.passes))
