"""Which application is to blame? The search for the smallest set of applications that makes a pipeline fail.

Applications are known by their identity, not by their number, so that a set means the same whatever else is refused.
The first search is by prefix: how many of the applications, in order, does it take until it fails? The last of them
is a culprit, for everything that it rests on was applied and did no harm. If it fails only together with earlier ones,
those are found likewise; those without which it would not fit at all are told apart. Where it still fails without the
culprit, the other places of the same rule are tried next: one wrong rule is one culprit, however many blocks there are.
Then the verdict is confirmed, both ways and more than once: with the culprits alone it fails, with all but them it does
not. A search has a bounded number of runs, and what it saw is told even where it comes to no verdict.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from burnish.debug.backends import OpFault, wrong_ops
from burnish.debug.check import Checker
from burnish.debug.controllers import All, Only, PrintChanges, Record, Skip
from burnish.debug.folding import places
from burnish.passes.engine import RULES, Application, Context, Controller, Endless, PassError, Remark, Unaccounted
from burnish.passes.pipelines import Expect
from burnish.runtime.progress import Progress

__all__ = ["Bisection", "Culprit", "Outcome", "Probe", "bisect", "bisect_pipeline", "changes_of", "probe_of"]

REPEATS = 2  # how often each run that the verdict rests on is made
MOST_RUNS = 200
MOST_PLACES = 16  # so many runs go into which of its other places a rule is wrong at


@dataclass(frozen=True)
class Outcome:
    """What one run under a controller came to: the fault, or None where all is well, and what was allowed, in order.

    Faults of another `kind` are not the fault that is looked for: "numbers", a "crash", what a "backend" makes of the
    graph, an "unaccounted" change of a pass, or an "endless" `turn` of applications. It was seen after the pass
    `pass_text`. The first `safe` of the applications were there before that, and did no harm. `misfits` are places that
    were left alone, because what a rule built did not fit.
    """

    fault: str | None
    allowed: tuple[Application, ...]
    kind: str = ""
    pass_text: str = ""
    safe: int = 0
    turn: tuple[Application, ...] = ()
    misfits: tuple[Remark, ...] = ()

    @property
    def fitted(self) -> set[str]:
        """The ids of what was allowed, and fitted."""
        return {a.id for a in self.allowed} - {m.application.id for m in self.misfits}


class Probe(Protocol):
    """Runs a pipeline under a controller. A `quick` run need only show the fault that was seen last."""

    def __call__(self, controller: Controller, quick: bool = False) -> Outcome:
        """What became of it."""


def probe_of(checker: Checker, pipeline: str, skip: Controller | None = None) -> Probe:
    """A run of `debug check`, always asking `skip` first, up to its first fault or until a pass crashes.

    What the pipeline says must match does not count: with something left out, less does. A quick run has the reading
    alone in which the last fault of a full run was seen.
    """
    passes = [p for p in checker.passes(pipeline) if not isinstance(p, Expect)]
    seen: list[int] = []

    def probe(controller: Controller, quick: bool = False) -> Outcome:
        record = Record(All([controller] if skip is None else [skip, controller]))
        used = checker.focused(seen[-1]) if quick and seen else checker
        safe, done, misfits = 0, 0, list[Remark]()

        def outcome(fault: str | None, kind: str, pass_text: str, **more: Any) -> Outcome:
            return Outcome(fault, tuple(record.allowed.values()), kind, pass_text, safe, misfits=tuple(misfits), **more)

        try:
            for verdict in used.verdicts(passes, record):
                misfits += verdict.misfits
                if verdict.fault is not None:
                    if not quick:
                        seen.extend([] if verdict.reading is None else [verdict.reading])
                    safe = 0 if verdict.backend else safe
                    kind = "backend" if verdict.backend else "numbers"
                    return outcome(f"{verdict.pass_text}: {verdict.fault}", kind, verdict.pass_text)
                safe, done = len(record.allowed), done + 1
            return outcome(None, "", "")
        except Unaccounted as e:
            return outcome(str(e), "unaccounted", e.pass_text)
        except Endless as e:
            return outcome(str(e), "endless", str(passes[done]), turn=e.applications)
        except PassError as e:
            return outcome(str(e), "crash", str(passes[done]))

    return probe


def changes_of(checker: Checker, pipeline: str, ids: Collection[str], skipped: Collection[str] = ()) -> dict[str, str]:
    """What these applications do to the graph's text, each as a diff by its id, in a run of the whole pipeline."""
    found: dict[str, str] = {}
    context = Context(checker.module.copy(), Skip(skipped))
    context.observers = [PrintChanges(lambda a, text: found.update({a.id: text}), context.module, ids)]
    with suppress(PassError):  # a crash ends it; what came before is told
        for pass_ in checker.passes(pipeline):
            context.run(pass_)
    return found


@dataclass(frozen=True)
class Culprit:
    """One cause: applications that fail only `together`, or a rule at places of which each fails alone.

    Of `untried` more of its places it is not known: without them all is well, and with some of them it is not. They do
    not fit without those that they rest on, which do no harm.
    """

    applications: tuple[Application, ...]
    together: bool = False
    untried: tuple[Application, ...] = ()
    rests_on: tuple[Application, ...] = ()

    @property
    def ids(self) -> list[str]:
        """Those to skip."""
        return [a.id for a in (*self.applications, *self.untried)]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        kinds = {"applications": self.applications, "untried": self.untried, "rests on": self.rests_on}
        return {"together": self.together} | {k: [a.as_json() for a in each] for k, each in kinds.items()}

    def __str__(self) -> str:
        if self.together:
            lines = [f"culprits, which fail only together ({len(self.applications)}):"]
            for a in self.applications:
                lines += [f"  {_rule_text(a)}", *_place_lines(a)]
            return "\n".join([*lines, *self._further()])
        first, *others = self.applications
        lines = [f"culprit: {_rule_text(first)}", *_place_lines(first)]
        if others:
            lines.append(f"  and as wrong at {len(others)} more: {places(others)}")
        return "\n".join([*lines, *self._further()])

    def _further(self) -> list[str]:
        lines = [f"  rests on {a}" for a in self.rests_on]
        if self.untried:
            lines.append(f"  {len(self.untried)} more of its places were not tried one by one")
        return lines


def _rule_text(a: Application) -> str:
    rule = RULES.get(a.rule)
    does = inspect.cleandoc(rule.__doc__ or "").partition("\n")[0] if rule is not None else ""
    return f"{a.pass_name}/{a.rule} ({a.exactness})" + (f": {does}" if does else "")


def _place_lines(a: Application) -> list[str]:
    return [f"  at {a.scope or a.graph} ({a.id})", f"    sources: {', '.join(a.sources)}", f"    replaces: {a.before}"]


@dataclass
class Bisection:
    """The verdict: what is to blame for `fault`, or None for `culprits` and the reason why there is no verdict.

    A pass that changed the graph otherwise than by applications is `pass_text`. `ops` are those that a backend computes
    otherwise than they are defined, where no application has a part in that. Where the search was cut short,
    `suspects` are the applications among which a culprit is. `misfits` are places that were left alone where nothing is
    wrong, because what a rule built did not fit.
    """

    fault: str | None
    culprits: list[Culprit] | None = field(default_factory=list)
    reason: str = ""
    probes: int = 0
    pass_text: str = ""
    ops: list[OpFault] = field(default_factory=list)
    suspects: tuple[Application, ...] = ()
    interrupted: bool = False
    misfits: tuple[Remark, ...] = ()

    @property
    def ids(self) -> list[str]:
        """The ids of all that must be skipped."""
        return [id for culprit in self.culprits or () for id in culprit.ids]

    @property
    def is_found(self) -> bool:
        """Whether something is named."""
        return bool(self.culprits or self.pass_text or self.ops)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "fault": self.fault,
            "culprits": None if self.culprits is None else [c.as_json() for c in self.culprits],
            "reason": self.reason,
            "probes": self.probes,
            "pass": self.pass_text,
            "ops": [op.as_json() for op in self.ops],
            "suspects": [a.as_json() for a in self.suspects],
            "interrupted": self.interrupted,
            "misfits": list(map(str, self.misfits)),
        }

    def __str__(self) -> str:
        lines = [f"fault: {self.fault}"] if self.fault is not None else []
        lines += map(str, self.culprits or ())
        lines += [f"left alone: {m}" for m in self.misfits]
        if self.pass_text:
            lines.append(f"culprit: pass {self.pass_text}")
        lines += [f"culprit: {op}" for op in self.ops]
        if self.suspects:
            rules = dict.fromkeys(f"{a.pass_name}/{a.rule}" for a in self.suspects)
            lines.append(f"among {len(self.suspects)} applications of {', '.join(rules)}")
        sure = f"confirmed {REPEATS} times: with it alone it fails, without it it does not"
        what = self.reason or sure
        lines.append(f"{'inconclusive: ' if self.culprits is None else ''}{what} ({self.probes} runs)")
        return "\n".join(lines)


class _Inconclusive(Exception):
    """Two runs that should be the same are not, or no set of applications explains the fault."""


def bisect_pipeline(
    checker: Checker, pipeline: str, skip: Controller | None = None, progress: Progress | None = None
) -> Bisection:
    """What is to blame for what `debug check` finds wrong: applications, a pass, or how a backend computes an op."""
    found = bisect(probe_of(checker, pipeline, skip), progress)
    if found.interrupted or not (found.fault or "").startswith(f"backend {checker.backend}:"):
        return found
    found.ops = wrong_ops(checker, pipeline, skip)
    if found.ops and not found.culprits:
        found.culprits, found.reason = [], "no application has a part in it"
    return found


def bisect(probe: Probe, progress: Progress | None = None) -> Bisection:
    """Find the applications to blame for what `probe` finds wrong when everything is applied."""
    search = _Search(probe, progress)
    try:
        found = _verdict(search)
    except _Inconclusive as e:
        suspects = search.suspects if len(search.suspects) < len(search.order) else ()
        found = Bisection(search.fault, None, str(e), search.probes, suspects=suspects)
    except KeyboardInterrupt:
        found = Bisection(search.fault, None, "interrupted", search.probes, suspects=search.suspects, interrupted=True)
    if progress is not None:
        progress("bisecting", search.probes, search.probes)
    return found


def _verdict(search: _Search) -> Bisection:
    full = search.steadily(())
    if full.fault is None:
        return Bisection(None, [], "nothing is wrong", search.probes, misfits=full.misfits)
    if full.kind == "unaccounted":
        return Bisection(full.fault, [], "not one of its applications", search.probes, full.pass_text)
    if full.turn:
        return Bisection(full.fault, [Culprit(full.turn, True)], "each makes room for the other", search.probes)
    search.kind = full.kind
    if search.fails(()):
        return _without_any(full, search)
    rest = full
    while rest.fault is not None:
        if rest.kind != full.kind:
            reason = f"without them another fault appears: {rest.fault}"
            return Bisection(full.fault, search.culprits, reason, search.probes)
        search.culprits.append(search.group(rest))
        rest = search.steadily(search.known)
        if rest.fault is not None and rest.kind == full.kind and not search.culprits[-1].together:
            search.widen()
            rest = search.steadily(search.known)
    return Bisection(full.fault, search.culprits, "", search.probes)


def _without_any(full: Outcome, search: _Search) -> Bisection:
    """It fails with nothing applied."""
    if full.kind == "crash":
        return Bisection(full.fault, [], "with nothing applied it crashes too", search.probes, full.pass_text)
    reason = "it fails with nothing applied: the fault is not in any application"
    return Bisection(full.fault, None, reason, search.probes)


@dataclass
class _RuleOff:
    """Refuses every application of the rule that made `first`, and keeps them."""

    first: Application
    met: dict[str, Application] = field(default_factory=dict)

    def __call__(self, application: Application) -> str | None:
        if (application.pass_name, application.rule) != (self.first.pass_name, self.first.rule):
            return None
        self.met[application.id] = application
        return "its rule is left out"


@dataclass
class _Search:
    probe: Probe
    progress: Progress | None = None
    kind: str = ""
    probes: int = 0
    fault: str | None = None  # the first that was seen
    order: tuple[Application, ...] = ()
    suspects: tuple[Application, ...] = ()
    culprits: list[Culprit] = field(default_factory=list)

    @property
    def known(self) -> list[str]:
        return [id for culprit in self.culprits for id in culprit.ids]

    def run(self, controller: Controller, quick: bool = True) -> Outcome:
        if self.probes >= MOST_RUNS:
            raise _Inconclusive(f"given up after {self.probes} runs")
        if self.progress is not None:
            steps = math.ceil(math.log2(max(len(self.suspects), 2)))
            self.progress("bisecting", self.probes, self.probes + steps + 2 * REPEATS)
        self.probes += 1
        outcome = self.probe(controller, quick)
        self.fault = self.fault or outcome.fault
        return outcome

    def steadily(self, skipped: Sequence[str]) -> Outcome:
        """The outcome without `skipped`, if it is the same each time."""
        outcomes = [self.run(Skip(skipped), quick=False) for _ in range(REPEATS)]
        if len({(o.fault is None, o.kind, tuple(a.id for a in o.allowed)) for o in outcomes}) > 1:
            raise _Inconclusive("the same applications fail at one time and not at another")
        return outcomes[0]

    def fails(self, ids: Iterable[str]) -> bool:
        """Whether it fails, in the way that is looked for, with these applications alone."""
        return self.is_the_fault(self.run(Only(set(ids))))

    def is_the_fault(self, outcome: Outcome) -> bool:
        return outcome.fault is not None and outcome.kind == self.kind

    def group(self, outcome: Outcome) -> Culprit:
        """A smallest set of the applications that were allowed that fails together. All of them together fail."""
        order = self.order = self.suspects = outcome.allowed
        ids = [a.id for a in order]
        end = self.shortest_prefix(ids, [], outcome.safe)
        group, needed = [order[end]], [ids[end]]  # who is to blame, and what it takes to fail
        reach = ids[: end + 1]
        while end and not self.fails(needed):
            end = self.shortest_prefix(ids[:end], needed)
            if self.is_to_blame(ids[end], group, reach):
                group.insert(0, order[end])
            needed.insert(0, ids[end])
        if not all(self.fails(needed) for _ in range(REPEATS)):
            raise _Inconclusive(f"{', '.join(needed)} alone do not fail a second time")
        rests_on = tuple(a for a in order if a.id in needed and a not in group)
        return Culprit(tuple(group), together=len(group) > 1, rests_on=rests_on)

    def shortest_prefix(self, ids: list[str], needed: list[str], low: int = 0) -> int:
        """The index of the last application of the shortest prefix that fails together with `needed`."""
        high = len(ids)  # it does not fail with ids[:low], it fails with ids[:high]
        while high - low > 1:
            middle = (low + high) // 2
            if self.fails([*needed, *ids[:middle]]):
                high = middle
            else:
                low = middle
            self.suspects = self.order[low:high]
        return high - 1

    def is_to_blame(self, id: str, group: list[Application], reach: list[str]) -> bool:
        """Whether the group fits without this application too, and does no harm then; else it just rests on it."""
        outcome = self.run(Only({i for i in reach if i != id}))
        return outcome.fault is None and {a.id for a in group} <= outcome.fitted

    def widen(self) -> None:
        """It fails without the last culprit too: look at the other places of the same rule first."""
        (first,) = self.culprits[-1].applications
        off = _RuleOff(first)
        if self.is_the_fault(self.run(All([Skip(self.known), off]))):
            return  # another rule has a part in it
        like = list(off.met.values())
        others = list(off.met)
        wrong, untried, runs, work = list[Application](), list[Application](), 0, [like[:1], like[-1:], like[1:-1]]
        while work:
            if runs == 2 and len(wrong) == 2:  # wrong at both ends: wrong everywhere, as a rule
                work = [[a] for places in work for a in places]
            places = work.pop(0)
            if not places or places[0] in wrong:
                continue
            if runs >= MOST_PLACES:
                untried += places
                continue
            runs += 1
            among = {a.id for a in places}
            if not self.is_the_fault(self.run(Skip([*self.known, *(i for i in others if i not in among)]))):
                continue  # these are right
            if len(places) == 1:
                wrong += places
            else:
                work += [places[: len(places) // 2], places[len(places) // 2 :]]
        every = (first, *(a for a in like if a in wrong))
        self.culprits[-1] = replace(self.culprits[-1], applications=every, untried=tuple(untried))
