"""Which application is to blame? The search for the smallest set of applications that makes a pipeline fail.

Applications are known by their identity, not by their number, so that a set means the same whatever else is refused.
The first search is by prefix: how many of the applications, in order, does it take until it fails? The last of them
is a culprit, for everything that it rests on was applied and did no harm. If it fails only together with earlier ones,
those are found likewise; those without which it would not fit at all are told apart. Then the verdict is confirmed,
both ways and more than once: with the culprits alone it fails, with all but them it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from burnish.debug.check import Checker
from burnish.debug.controllers import All, Only, PrintChanges, Record, Skip
from burnish.passes.engine import Application, Context, Controller, PassError, Unaccounted
from burnish.passes.pipelines import Expect
from burnish.runtime.targets import read_pipeline

__all__ = ["Bisection", "Outcome", "Probe", "bisect", "changes_of", "probe_of"]

REPEATS = 2  # how often each run that the verdict rests on is made


@dataclass(frozen=True)
class Outcome:
    """What one run under a controller came to: the fault, or None where all is well, and what was allowed, in order.

    Faults of another `kind` (a crash, other numbers) are not the fault that is looked for. A pass that is itself to
    blame, not one of its applications, is `pass_text`.
    """

    fault: str | None
    allowed: tuple[Application, ...]
    kind: str = ""
    pass_text: str = ""


Probe = Callable[[Controller], Outcome]


def probe_of(checker: Checker, pipeline: str, skipped: Collection[str] = ()) -> Probe:
    """A run of `debug check`, always without `skipped`, up to its first fault or until a pass crashes.

    What the pipeline says must match does not count: with something left out, less does.
    """
    passes = [p for p in read_pipeline(pipeline) if not isinstance(p, Expect)]

    def probe(controller: Controller) -> Outcome:
        record = Record(All([Skip(skipped), controller]))
        try:
            fault = next((f for v in checker.verdicts(passes, record) if (f := v.fault) is not None), None)
            return Outcome(fault, tuple(record.allowed.values()), "numbers")
        except Unaccounted as e:
            return Outcome(str(e), tuple(record.allowed.values()), "unaccounted", e.pass_text)
        except PassError as e:
            return Outcome(str(e), tuple(record.allowed.values()), "crash")

    return probe


def changes_of(checker: Checker, pipeline: str, ids: Collection[str], skipped: Collection[str] = ()) -> dict[str, str]:
    """What these applications do to the graph's text, each as a diff by its id, in a run of the whole pipeline."""
    found: dict[str, str] = {}
    context = Context(checker.module.copy(), Skip(skipped))
    context.observers = [PrintChanges(lambda a, text: found.update({a.id: text}), context.module, ids)]
    with suppress(PassError):  # a crash ends it; what came before is told
        for pass_ in read_pipeline(pipeline):
            context.run(pass_)
    return found


@dataclass
class Bisection:
    """The verdict: `culprits`, each a set that fails together, or None for `culprits` and the reason why not."""

    fault: str | None
    culprits: list[list[Application]] | None = field(default_factory=list)
    reason: str = ""
    probes: int = 0
    pass_text: str = ""  # a pass that changed the graph otherwise than by applications

    @property
    def ids(self) -> list[str]:
        """The ids of all culprits."""
        return [a.id for group in self.culprits or () for a in group]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        groups = None if self.culprits is None else [[a.as_json() for a in group] for group in self.culprits]
        found = {"fault": self.fault, "culprits": groups, "reason": self.reason, "probes": self.probes}
        return found | ({"pass": self.pass_text} if self.pass_text else {})

    def __str__(self) -> str:
        if self.pass_text:
            return f"fault: {self.fault}\nculprit: pass {self.pass_text}, {self.reason} ({self.probes} runs)"
        if not self.culprits:
            return f"{'inconclusive: ' if self.culprits is None else ''}{self.reason} ({self.probes} runs)"
        lines = [f"fault: {self.fault}"]
        for group in self.culprits:
            lines.append("culprit:" if len(group) == 1 else f"culprits, together ({len(group)}):")
            for a in group:
                lines += [f"  {a.id} {a.pass_name}/{a.rule} ({a.exactness})", f"    scope: {a.scope or a.graph}"]
                lines += [f"    sources: {', '.join(a.sources)}", f"    replaces: {a.before}"]
        confirmed = self.reason or f"confirmed {REPEATS} times: with them it fails, without them it does not"
        lines.append(f"{confirmed} ({self.probes} runs)")
        return "\n".join(lines)


class _Inconclusive(Exception):
    """Two runs that should be the same are not, or no set of applications explains the fault."""


def bisect(probe: Probe) -> Bisection:
    """Find the applications to blame for what `probe` finds wrong when everything is applied."""
    search = _Search(probe)
    try:
        full = search.steadily(())
        if full.fault is None:
            return Bisection(None, [], "nothing is wrong", search.probes)
        if full.pass_text:
            reason = "not one of its applications"
            return Bisection(full.fault, [], reason, search.probes, full.pass_text)
        search.kind = full.kind
        culprits: list[list[Application]] = []
        rest = full
        while rest.fault is not None:
            if rest.kind != full.kind:
                reason = f"without them another fault appears: {rest.fault}"
                return Bisection(full.fault, culprits, reason, search.probes)
            culprits.append(search.group(rest.allowed))
            rest = search.steadily([a.id for group in culprits for a in group])
        return Bisection(full.fault, culprits, "", search.probes)
    except _Inconclusive as e:
        return Bisection(None, None, str(e), search.probes)


@dataclass
class _Search:
    probe: Probe
    kind: str = ""
    probes: int = 0

    def run(self, controller: Controller) -> Outcome:
        self.probes += 1
        return self.probe(controller)

    def steadily(self, skipped: Sequence[str]) -> Outcome:
        """The outcome without `skipped`, if it is the same each time."""
        outcomes = [self.run(Skip(skipped)) for _ in range(REPEATS)]
        if len({(o.fault is None, o.kind, tuple(a.id for a in o.allowed)) for o in outcomes}) > 1:
            raise _Inconclusive("the same applications fail at one time and not at another")
        return outcomes[0]

    def fails(self, ids: Iterable[str]) -> bool:
        """Whether it fails, in the way that is looked for, with these applications alone."""
        outcome = self.run(Only(set(ids)))
        return outcome.fault is not None and outcome.kind == self.kind

    def group(self, order: Sequence[Application]) -> list[Application]:
        """A smallest set of the applications in `order` that fails together. All of them together fail."""
        if self.fails(()):
            raise _Inconclusive("it fails with nothing applied: the fault is not in any application")
        ids = [a.id for a in order]
        end = self.shortest_prefix(ids, [])
        group, needed = [order[end]], [ids[end]]  # who is to blame, and what it takes to fail
        reach = ids[: end + 1]
        while end and not self.fails(needed):
            end = self.shortest_prefix(ids[:end], needed)
            if self.is_to_blame(ids[end], group, reach):
                group.insert(0, order[end])
            needed.insert(0, ids[end])
        if not all(self.fails(needed) for _ in range(REPEATS)):
            raise _Inconclusive(f"{', '.join(needed)} alone do not fail a second time")
        return group

    def shortest_prefix(self, ids: list[str], needed: list[str]) -> int:
        """The index of the last application of the shortest prefix that fails together with `needed`."""
        low, high = 0, len(ids)  # it does not fail with ids[:low], it fails with ids[:high]
        while high - low > 1:
            middle = (low + high) // 2
            if self.fails([*needed, *ids[:middle]]):
                high = middle
            else:
                low = middle
        return high - 1

    def is_to_blame(self, id: str, group: list[Application], reach: list[str]) -> bool:
        """Whether the group fits without this application too, and does no harm then; else it just rests on it."""
        outcome = self.run(Only({i for i in reach if i != id}))
        return outcome.fault is None and {a.id for a in group} <= {a.id for a in outcome.allowed}
