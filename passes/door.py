"""The one door through which every change to a graph goes: its controller, its observers, its promises."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, dataclass_transform

from burnish.ir.builder import Ops
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.guards import AllTrue
from burnish.ir.module import Module
from burnish.ir.origin import Origin
from burnish.ir.registry import Registry
from burnish.ir.signature import SignatureError
from burnish.ir.text import neighbourhood
from burnish.ir.types import InferError, require
from burnish.ir.verify import VerifyError, same_types, verify, verify_nodes, verify_signatures
from burnish.passes.ledger import Ledger
from burnish.passes.rule import Exactness, Rule

__all__ = [
    "PASSES",
    "Application",
    "Context",
    "Controller",
    "Endless",
    "Observer",
    "Pass",
    "PassError",
    "Remark",
    "Unaccounted",
    "other_users",
]


class PassError(ValueError):
    """A pass that broke a promise: which pass, which application, and the statements around it."""


class Unaccounted(PassError):
    """A pass that changed a module otherwise than through the door. `pass_text` says which."""

    def __init__(self, pass_text: str, what: str) -> None:
        self.pass_text = pass_text
        super().__init__(f"pass {pass_text} went round the door: {what}")


class Endless(PassError):
    """Rules that undo each other, or one that fits what it makes. `applications` are those of one turn, in order."""

    def __init__(self, applications: Sequence[Application], place: Node) -> None:
        self.applications = tuple(applications)
        rules = list(dict.fromkeys(a.rule for a in applications))
        what = f"rules {', '.join(rules)} undo each other" if len(rules) > 1 else f"rule {rules[0]} fits what it makes"
        turn = ", then ".join(map(str, applications))
        super().__init__(f"{what}, without end: {turn}, and so on\n{neighbourhood(place)}")


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

    @property
    def restructures(self) -> bool:
        """Whether it changes the graph's signature: what `Context.restructure` asks about."""
        return self.before == f"graph {self.graph}"

    def __str__(self) -> str:
        return f"{self.id} {self.pass_name}/{self.rule} at {self.scope or self.graph}"

    def as_json(self) -> dict[str, Any]:
        """Its fields, for machines."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Remark:
    """What became of a place where a rule fitted: applied (`reason` is None), or why not.

    A `misfit` was left alone because what the rule builds does not fit, which is a fault of the rule.
    """

    application: Application
    reason: str | None
    misfit: bool = False

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


@dataclass_transform(frozen_default=True, kw_only_default=True)
@dataclass(frozen=True, kw_only=True, repr=False)
class Pass:
    """Base of all passes, one file each; its fields are its options, its name is the class's in kebab case."""

    name: ClassVar[str]
    #: what it applies
    rules: ClassVar[tuple[type[Rule], ...]] = ()
    #: that of its least exact rule
    exactness: ClassVar[Exactness] = "exact"

    def __init_subclass__(cls, replace: bool = False, base: bool = False) -> None:
        """Finds the pass by its being defined, unless it is a base of others."""
        if inspect.get_annotations(cls) or len(cls.__bases__) > 1:  # otherwise it is what its base is
            dataclasses.dataclass(frozen=True, kw_only=True, repr=False)(cls)
        cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()
        if cls.rules:
            cls.exactness = max((r.exactness for r in cls.rules), key=_STRICTNESS.index)
        if not base and not cls.__name__.startswith("_"):
            PASSES.add(cls.name, cls, replace)

    def run(self, module: Module, ctx: Context) -> None:
        """Change `module` through `ctx`."""
        raise NotImplementedError(self.name)

    def __str__(self) -> str:
        """The pass and its options as the command line takes them: `quantize-weights{recipe=q4_0}`."""
        fields = dataclasses.fields(self)
        options = [f"{f.name}={_option(v)}" for f in fields if (v := getattr(self, f.name)) != f.default]
        return self.name + ("{" + ",".join(options) + "}" if options else "")

    __repr__ = __str__


def _option(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_STRICTNESS: tuple[Exactness, ...] = ("exact", "rounding", "lossy")
#: applications of one rule, in one run of a pass, for each source that is joined at the place
_MOST = 64
PASSES: Registry[type[Pass]] = Registry("pass")


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
    _history: dict[str, list[Application]] = field(default_factory=dict)  # of the pass that runs, by place

    def __post_init__(self) -> None:
        self._ledger = Ledger(self.module)

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

    def run(self, pass_: Pass) -> None:
        """Run one pass, restore the normal form, verify what it changed. Raises PassError."""
        if self.current is not None:
            raise PassError(f"pass {pass_}: pass {self.current} has not ended, or failed: begin a new Context")
        self.current = pass_
        self._run(pass_)
        self.current = None

    def _run(self, pass_: Pass) -> None:
        self._runs[pass_.name] = self._runs.get(pass_.name, 0) + 1
        self._history.clear()
        applied = len(self.applied)
        try:
            pass_.run(self.module, self)
            self._account()
            self._forget_refusals()
            touched = self._ledger.close()
            for graph in touched:
                graph.normalize()
        except PassError:
            raise
        except (InferError, SignatureError, ValueError) as e:
            raise PassError(f"pass {pass_}: {e}") from e
        except Exception as e:
            raise PassError(f"pass {pass_} crashed: {type(e).__name__}: {e}") from e
        if len(self.applied) > applied:
            facts = self.module.facts
            self.module.facts = dataclasses.replace(facts, passes=(*facts.passes, str(pass_)))
            self._ledger.retabled()
        try:
            for graph, nodes in touched.items():
                verify_nodes(nodes, graph)
            if touched:
                verify_signatures(self.module)
        except VerifyError as e:
            maker = self._makers.get(e.node) if e.node is not None else None
            by = f", application {maker}" if maker else ""
            raise PassError(f"after pass {pass_}{by}: {e}") from e
        for observer in self.observers:
            observer.after_pass(pass_, self.module)

    def _account(self, nodes: Iterable[Node] | None = None) -> None:
        """Raise Unaccounted where some nodes, or anything, is not as the door has left it."""
        if (what := self._ledger.fault(nodes)) is not None:
            raise Unaccounted(str(self.current), what)

    def rewrite(
        self,
        rule: Rule,
        nodes: Sequence[Node],
        olds: Sequence[Value],
        build: Callable[[Ops], Any],
        aside: Sequence[Node] = (),
    ) -> list[Node] | None:
        """Replace `olds`, results of some of `nodes`, by what `build(op)` returns, if the controller agrees.

        Where they would not have the old types, or an op does not accept what it is built on, nothing is changed and
        a remark says so. Nodes that nothing reads afterwards are erased; those `aside` were looked at too, and may have
        other users. What is assumed of symbols, `op.assume` says. Returns the new nodes, or None where the application
        was skipped. Raises PassError.
        """
        application = self._application(rule, nodes, olds, aside)
        if reason := other_users(nodes, olds):
            self._refuse(application, reason, nodes, olds)
            return None
        place = _place(nodes, olds)
        self._bound(application, place, nodes)
        if not self._ask(application):
            return None
        self._account([*nodes, *aside])

        def broken(what: str) -> PassError:
            return PassError(f"application {application}: {what}\n{neighbourhood(place)}")

        graph = place.out.graph
        origin = Origin.union((n.origin for n in nodes if not n.is_leaf), application.rule)
        op = Ops(graph, origin, may_assume=False)
        try:
            built = build(op)
            news = list(built) if len(olds) != 1 or isinstance(built, tuple | list) else [built]
            if len(news) != len(olds):
                raise broken(f"builds {len(news)} values for {len(olds)}")
            same = same_types(self.module.guards)
            for old, new in zip(olds, news, strict=True):
                require(same(old.type, new.type), f"{new.type} does not stand for {old.type}")
        except InferError as e:
            for node in reversed([*op.leaves, *op.made]):
                graph.erase(node)
            self._refuse(application, f"what it builds does not fit: {e}", nodes, olds, misfit=True)
            return None
        except PassError:
            raise
        except Exception as e:
            raise broken(f"its build crashes: {type(e).__name__}: {e}") from e
        if any(v in olds for n in op.made for v in n.operands):
            raise broken("builds on the value that it replaces")
        readers = [u for old in olds for u in old.users]
        self._account(readers)
        if op.assumed and (what := self._ledger.table_fault()) is not None:
            raise Unaccounted(str(self.current), what)
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
        self._ledger.changed(graph, [*op.made, *op.leaves, *readers], erased)
        if op.assumed:
            self.module.guards += (new := [g for g in op.assumed if g not in self.module.guards])
            self._ledger.opened(g.graph for g in new if isinstance(g, AllTrue))
            self._ledger.retabled()
        self._history.setdefault(self._source(place), []).append(application)
        self._done(application, op.made)
        return [n for n in op.made if n.graph is not None]

    def merge(self, rule: Rule, node: Node, into: Node) -> bool:
        """Let what reads `node` read the equal node `into`, which then stands for both. Returns whether it was done."""
        self._account([into])
        origin = Origin.union([into.origin, node.origin], rule.name)
        if self.rewrite(rule, [node], node.outputs, lambda op: into.outputs) is None:
            return False
        into.origin = origin
        self._ledger.changed(into.out.graph, [into])
        return True

    def drop(self, leaf: Node) -> None:
        """Take away a weight or a constant that nothing reads, which is nobody's application."""
        graph = leaf.out.graph
        graph.erase(leaf)
        self._ledger.changed(graph, [], [leaf])

    def restructure(self, rule: Rule, graph: Graph, change: Callable[[Ops], None], nodes: Sequence[Node] = ()) -> bool:
        """A change to a graph's signature: one application a graph, or one for each set of `nodes` that it is about.

        `change` edits the graph as it needs. Returns whether it was applied.
        """
        assert self.current is not None
        about = Origin.union(n.origin for n in nodes)
        id_ = self._identity(rule.name, graph.name, sorted(about.sources))
        first = tuple(n.origin.sources[0] for n in graph if n.origin.sources and n.time == "run")[:1]
        sources = about.sources or first
        name, before = self.current.name, f"graph {graph.name}"
        application = Application(id_, name, rule.name, rule.exactness, graph.name, about.scope, sources, before)
        if not self._ask(application):
            return False
        self._account()
        op = Ops(graph, Origin(about.scope, sources, (rule.name,)), may_assume=False)
        try:
            change(op)
        except (InferError, PassError) as e:
            raise PassError(f"application {application}: {e}") from e
        graph.erase_dead(list(graph))
        self.module.guards += [g for g in op.assumed if g not in self.module.guards]
        self._ledger.reopen()
        try:
            verify(self.module)
        except VerifyError as e:
            raise PassError(f"after pass {self.current}, application {application}: {e}") from e
        self._ledger.verified()
        self._done(application, op.made)
        return True

    def remark(
        self, rule: Rule, nodes: Sequence[Node], olds: Sequence[Value], reason: str, aside: Sequence[Node] = ()
    ) -> None:
        """Record why a rule that fits was not applied."""
        self._refuse(self._application(rule, nodes, olds, aside), reason, nodes, olds)

    def _refuse(
        self,
        application: Application,
        reason: str,
        nodes: Sequence[Node],
        olds: Sequence[Value],
        misfit: bool = False,
    ) -> None:
        self._note(application, reason, misfit)
        self._refused[application.id] = _place(nodes, olds)

    def _forget_refusals(self) -> None:
        for id_, place in self._refused.items():
            if place.graph is None and self._remarks[id_].reason is not None:
                del self._remarks[id_]
        self._refused.clear()

    def _application(
        self, rule: Rule, nodes: Sequence[Node], olds: Sequence[Value], aside: Sequence[Node] = ()
    ) -> Application:
        assert self.current is not None, "a pass runs through Context.run"
        origin = Origin.union(n.origin for n in nodes if not n.is_leaf)
        place = _place(nodes, olds)
        graph = place.out.graph.name
        before = f"{place.op!r}: {', '.join(str(o.type) for o in place.outputs)}"
        standing = sorted({self._standing(n) for n in (*nodes, *aside) if n.origin.sources})
        id_ = self._identity(rule.name, f"{graph} {before}", standing)
        name, kind = self.current.name, rule.exactness
        return Application(id_, name, rule.name, kind, graph, origin.scope, origin.sources, before)

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

    def _source(self, place: Node) -> str:
        """What a place was made of, however often it was made anew."""
        return self._standing(place).partition("#")[0] if place.origin.sources else ""

    def _bound(self, application: Application, place: Node, nodes: Sequence[Node]) -> None:
        """Raise Endless where the same was done here before, or one rule was applied here more often than can end."""
        history = self._history.get(self._source(place), [])
        ids = [a.id for a in history]
        known = self._remarks.get(application.id)
        if known is not None and known.reason is None:
            since = history[ids.index(application.id) :] if application.id in ids else []
            now = {a.id for at in self._history.values() for a in at}
            makers = {a.id: a for n in nodes if (a := self._makers.get(n)) is not None and a.id in now}
            if makers:
                turn = {application.id: application} | {a.id: a for a in since} | makers
                raise Endless(list(turn.values()), place)
            raise PassError(
                f"application {application} occurs twice, at {application.before} from {application.sources}: "
                "two nodes have one origin"
            )
        mine = [a for a in history if a.rule == application.rule]
        if len(mine) >= _MOST * (len(application.sources) or len(place.out.graph)):
            last = {a.rule: a for a in history[-2 * len(mine) :]}
            raise Endless(list(last.values()), place)

    def _ask(self, application: Application) -> bool:
        reason = self.controller(application)
        if reason is not None:
            self._note(application, reason)
        return reason is None

    def _note(self, application: Application, reason: str | None, misfit: bool = False) -> None:
        known = self._remarks.get(application.id)
        if known is None or known.reason is not None:  # what was applied stays so
            self._remarks.pop(application.id, None)
            self._remarks[application.id] = Remark(application, reason, misfit)

    def _done(self, application: Application, made: Sequence[Node]) -> None:
        self._note(application, None)
        self._makers.update(dict.fromkeys(made, application))
        for observer in self.observers:
            observer.applied(application, self.module, made)


def _place(nodes: Sequence[Node], olds: Sequence[Value]) -> Node:
    """The node that makes the first value that is replaced."""
    return olds[0].node if olds and olds[0].node is not None else nodes[0]
