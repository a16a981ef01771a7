"""The one door through which every change to a graph goes: its controller, its observers, its promises."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from burnish.ir.builder import Ops
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.module import Module
from burnish.ir.origin import Origin
from burnish.ir.text import neighbourhood
from burnish.ir.types import InferError
from burnish.ir.verify import VerifyError, same_types, verify

if TYPE_CHECKING:
    from burnish.passes.engine import Pass, Rule

__all__ = ["Application", "Context", "Controller", "Exactness", "Observer", "PassError", "Remark", "other_users"]

Exactness = Literal["exact", "rounding", "lossy"]


class PassError(Exception):
    """A pass that broke a promise: which pass, which application, and the statements around it."""


@dataclass(frozen=True)
class Application:
    """One change, as the controller is asked about it.

    `id` is a hash of (pass, rule, the place's op, and of each node that it covers the source that it stands for): the
    same whatever else is refused.
    """

    id: str
    pass_name: str
    rule: str
    exactness: Exactness
    graph: str
    scope: str
    sources: tuple[str, ...]
    before: str

    def __str__(self) -> str:
        return f"{self.id} {self.pass_name}/{self.rule} at {self.scope or self.graph}"

    def as_json(self) -> dict[str, Any]:
        """Its fields, for machines."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Remark:
    """What became of a place where a rule fitted: applied (`reason` is None), or why not."""

    application: Application
    reason: str | None

    def __str__(self) -> str:
        return f"{self.application}: {'applied' if self.reason is None else self.reason}"


class Controller(Protocol):
    """Decides about every application; the only one that does."""

    def __call__(self, application: Application) -> str | None:
        """None to apply, or the reason to skip it."""


class Observer(Protocol):
    """Watches the door."""

    def applied(self, application: Application, module: Module, made: Sequence[Node]) -> None:
        """After an application."""

    def after_pass(self, pass_: Pass, module: Module) -> None:
        """After a pass, with the module in normal form and verified."""


def _apply_all(application: Application) -> str | None:
    return None


def other_users(nodes: Sequence[Node], roots: Sequence[Value]) -> str | None:
    """Interior run-time values must have no user outside of what is replaced."""
    if len(nodes) == 1 and len(roots) == len(nodes[0].outputs):
        return None
    for node in nodes:
        if node.time == "weight" or node.is_leaf:
            continue
        for o in node.outputs:
            if o not in roots and (others := [u for u in o.users if u not in nodes]):
                return f"the result of {node.op.name} inside has another user, {others[0].op.name}"
    return None


@dataclass
class Context:
    """The one door, for one run of passes over one module."""

    module: Module
    controller: Controller = _apply_all
    observers: Sequence[Observer] = ()
    visited: int = 0  # nodes that rules were tried on
    current: Pass | None = None
    _remarks: dict[str, Remark] = field(default_factory=dict)
    _refused: dict[str, Node] = field(default_factory=dict)  # the places of refusals that a rule or promise gave
    _makers: dict[Node, Application] = field(default_factory=dict)
    _stands_for: dict[Node, str] = field(default_factory=dict)
    _runs: dict[str, int] = field(default_factory=dict)  # how often each pass has begun

    @property
    def remarks(self) -> list[Remark]:
        """What became of every place where a rule fitted, each once, in the order in which that was settled.

        Refusals at places that are gone when the pass ends are forgotten: what they say is no longer so.
        """
        return list(self._remarks.values())

    @property
    def applied(self) -> list[Application]:
        """What was applied, in order."""
        return [r.application for r in self.remarks if r.reason is None]

    def run(self, pass_: Pass, check: bool = True) -> None:
        """Run one pass, restore the normal form, verify. Raises PassError."""
        self.current = pass_
        self._runs[pass_.name] = self._runs.get(pass_.name, 0) + 1
        try:
            pass_.run(self.module, self)
            self._forget_refusals()
            self.module.normalize()
        except PassError:
            raise
        except (InferError, ValueError) as e:
            raise PassError(f"pass {pass_}: {e}") from e
        except Exception as e:
            raise PassError(f"pass {pass_} crashed: {type(e).__name__}: {e}") from e
        if check:
            try:
                verify(self.module)
            except VerifyError as e:
                maker = self._makers.get(e.node) if e.node is not None else None
                by = f", application {maker}" if maker else ""
                raise PassError(f"after pass {pass_}{by}: {e}") from e
        for observer in self.observers:
            observer.after_pass(pass_, self.module)

    def rewrite(
        self,
        rule: Rule | str,
        nodes: Sequence[Node],
        olds: Sequence[Value],
        build: Callable[[Ops], Any],
        exactness: Exactness | None = None,
        aside: Sequence[Node] = (),
    ) -> list[Node] | None:
        """Replace `olds`, results of some of `nodes`, by what `build(op)` returns, if the controller agrees.

        The new values must have the old types. Nodes that nothing reads afterwards are erased; those `aside` were
        looked at too, and may have other users. Returns the new nodes, or None where the application was skipped.
        Raises PassError.
        """
        application = self._application(rule, nodes, olds, exactness, aside)
        if reason := other_users(nodes, olds):
            self._refuse(application, reason, nodes, olds)
            return None
        if not self._ask(application):
            return None
        place = _place(nodes, olds)

        def broken(what: str) -> PassError:
            return PassError(f"application {application}: {what}\n{neighbourhood(place)}")

        graph = place.out.graph
        op = Ops(graph, Origin.union((n.origin for n in nodes if not n.is_leaf), application.rule))
        try:
            built = build(op)
        except InferError as e:
            raise broken(f"its build fails: {e}") from e
        except Exception as e:
            raise broken(f"its build crashes: {type(e).__name__}: {e}") from e
        news = list(built) if len(olds) != 1 or isinstance(built, tuple | list) else [built]
        if len(news) != len(olds):
            raise broken(f"builds {len(news)} values for {len(olds)}")
        same = same_types(self.module.guards)
        for old, new in zip(olds, news, strict=True):
            if not same(old.type, new.type):
                raise broken(f"replaces {old.type} by {new.type}")
        if any(v in olds for n in op.made for v in n.operands):
            raise broken("builds on the value that it replaces")
        for old, new in zip(olds, news, strict=True):
            graph.replace(old, new)
        erased = graph.erase_dead([*op.made, *nodes])
        # What only the replaced nodes read goes with them; its sources live on in what was made.
        lost = [n.origin for n in erased if n not in nodes and n not in op.made and not n.is_leaf]
        for n in op.made if lost else ():
            n.origin = dataclasses.replace(Origin.union([n.origin, *lost]), scope=n.origin.scope)
        if place.origin.sources:
            names = (f"{self._standing(place)}#{i}" if i else self._standing(place) for i in range(len(op.made)))
            self._stands_for.update(zip(op.made, names, strict=True))
        self._done(application, op.made)
        return [n for n in op.made if n.graph is not None]

    def restructure(self, rule: str, graph: Graph, change: Callable[[Ops], None], nodes: Sequence[Node] = ()) -> bool:
        """A change to a graph's signature: one application a graph, or one for each set of `nodes` that it is about.

        `change` edits the graph as it needs. Returns whether it was applied.
        """
        assert self.current is not None
        about = Origin.union(n.origin for n in nodes)
        id_ = self._identity(rule, graph.name, sorted(about.sources))
        first = tuple(n.origin.sources[0] for n in graph if n.origin.sources and n.time == "run")[:1]
        sources = about.sources or first
        name, kind, before = self.current.name, self.current.exactness, f"graph {graph.name}"
        application = Application(id_, name, rule, kind, graph.name, about.scope, sources, before)
        if not self._ask(application):
            return False
        op = Ops(graph, Origin(about.scope, sources, (rule,)))
        change(op)
        graph.erase_dead(list(graph))
        self._done(application, op.made)
        return True

    def remark(
        self, rule: Rule | str, nodes: Sequence[Node], olds: Sequence[Value], reason: str, aside: Sequence[Node] = ()
    ) -> None:
        """Record why a rule that fits was not applied."""
        self._refuse(self._application(rule, nodes, olds, None, aside), reason, nodes, olds)

    def _refuse(self, application: Application, reason: str, nodes: Sequence[Node], olds: Sequence[Value]) -> None:
        self._note(application, reason)
        self._refused[application.id] = _place(nodes, olds)

    def _forget_refusals(self) -> None:
        for id_, place in self._refused.items():
            if place.graph is None and self._remarks[id_].reason is not None:
                del self._remarks[id_]
        self._refused.clear()

    def _application(
        self,
        rule: Rule | str,
        nodes: Sequence[Node],
        olds: Sequence[Value],
        exactness: Exactness | None,
        aside: Sequence[Node] = (),
    ) -> Application:
        assert self.current is not None, "a pass runs through Context.run"
        name = rule if isinstance(rule, str) else rule.name
        kind = exactness or (self.current.exactness if isinstance(rule, str) else rule.exactness)
        origin = Origin.union(n.origin for n in nodes if not n.is_leaf)
        place = _place(nodes, olds)
        before = f"{place.op!r}: {', '.join(str(o.type) for o in place.outputs)}"
        standing = sorted({self._standing(n) for n in (*nodes, *aside) if n.origin.sources})
        id_ = self._identity(name, f"{place.out.graph.name} {before}", standing)
        graph = place.out.graph.name
        return Application(id_, self.current.name, name, kind, graph, origin.scope, origin.sources, before)

    def _standing(self, node: Node) -> str:
        """What a node stands for: the source it was imported from, or that of the place where it was made.

        Where a node was joined with others, that is still its first source; of several that were made at one place,
        all but the first have a number too.
        """
        return self._stands_for.get(node) or node.origin.sources[0]

    def _identity(self, rule: str, place: str, sources: Iterable[str]) -> str:
        assert self.current is not None
        which = f"{self.current.name} {self._runs[self.current.name]}"  # a pipeline may hold a pass twice
        return hashlib.sha256("\0".join([which, rule, place, *sources]).encode()).hexdigest()[:12]

    def _ask(self, application: Application) -> bool:
        before = self._remarks.get(application.id)
        if before is not None and before.reason is None:
            raise PassError(
                f"application {application} occurs twice, at {application.before} from {application.sources}: "
                "its rule and another undo each other, or two nodes have one origin"
            )
        reason = self.controller(application)
        if reason is not None:
            self._note(application, reason)
        return reason is None

    def _note(self, application: Application, reason: str | None) -> None:
        known = self._remarks.get(application.id)
        if known is None or known.reason is not None:  # what was applied stays so
            self._remarks.pop(application.id, None)
            self._remarks[application.id] = Remark(application, reason)

    def _done(self, application: Application, made: Sequence[Node]) -> None:
        self._note(application, None)
        self._makers.update(dict.fromkeys(made, application))
        for observer in self.observers:
            observer.applied(application, self.module, made)


def _place(nodes: Sequence[Node], olds: Sequence[Value]) -> Node:
    """The node that makes the first value that is replaced."""
    return olds[0].node if olds and olds[0].node is not None else nodes[0]
