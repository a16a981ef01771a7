"""Passes and rules.

A `Pass` is a dataclass whose fields are its options. A `RewritePass` runs its rules to a fixpoint; any other pass is a
function over the module. Both change it only through the one door, `Context.rewrite` and `Context.restructure`, which
ask the one controller (apply or skip), keep the promises, and record origin and remarks: see `door.py`.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any, ClassVar, dataclass_transform

from burnish.ir.builder import Ops
from burnish.ir.graph import Node
from burnish.ir.module import Module
from burnish.ir.registry import Registry
from burnish.passes.door import (
    Application,
    Context,
    Controller,
    Exactness,
    Observer,
    PassError,
    Remark,
    other_users,
)
from burnish.passes.pattern import Alternative, Const, Match, Pattern, trace

__all__ = [
    "PASSES",
    "RULES",
    "Application",
    "Const",
    "Context",
    "Controller",
    "Exactness",
    "Observer",
    "Pass",
    "PassError",
    "Pattern",
    "Remark",
    "RewritePass",
    "Rule",
]

_STRICTNESS: tuple[Exactness, ...] = ("exact", "rounding", "lossy")
_ROUNDS = 1000  # more applications at one source than this means that rules undo each other


class Rule:
    """A rewrite: `match` is the expression it looks for, `where` says None or why not, `build` makes the replacement.

    The docstring is `before -> after`. `where` and `build` take any of the names of `match`; `out` is the (first) value
    that is replaced, `outs` are all of them. `where` answers "" for what goes without saying, because the pattern is
    wider than the rule: that is refused without a remark.

    `example` names a type (or a constant) for each operand and a value for each attribute, so that the rule can be
    tested on an instance of its own pattern: see `burnish.testing.check_rule`.
    """

    exactness: ClassVar[Exactness] = "exact"
    example: ClassVar[dict[str, Any]] = {}
    #: the pass that runs the rule: its options are fields of this
    options: Pass | None = None

    match: Callable[..., Pattern]
    build: Callable[..., Any]

    def __init_subclass__(cls, replace: bool = False) -> None:
        if cls.__doc__ and not cls.__name__.startswith("_"):
            RULES.add(cls.__name__, cls, replace)

    def where(self, *_: Any, **__: Any) -> str | None:
        """None, or why the rule does not apply here."""
        return None

    def around(self, op: Ops, *outs: Any, **__: Any) -> Any:
        """What reads the pattern's results in the instance of `example`, for a `where` that asks about it."""
        return outs

    @property
    def name(self) -> str:
        """The class's name."""
        return type(self).__name__

    @property
    def alternatives(self) -> list[Alternative]:
        """The traced pattern."""
        found = self.__dict__.get("_alternatives")
        if found is None:
            found = self.__dict__["_alternatives"] = trace(self.match)
        return found

    def call(self, method: Callable[..., Any], match: Match, *first: Any) -> Any:
        """`where` or `build` with the names that it asks for."""
        known = match.bindings | {"out": match.roots[0], "outs": match.roots}
        names = _parameters(getattr(method, "__func__", method))[len(first) :]
        return method(*first, **{n: known[n] for n in names})


RULES: Registry[type[Rule]] = Registry("rule")


@cache
def _parameters(method: Callable[..., Any]) -> tuple[str, ...]:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return tuple(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Pass:
    """Base of all passes, one file each; its fields are its options, its name is the class's in kebab case."""

    name: ClassVar[str]
    exactness: ClassVar[Exactness] = "exact"

    def __init_subclass__(cls, replace: bool = False) -> None:
        dataclasses.dataclass(frozen=True, kw_only=True, repr=False)(cls)
        cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()
        if not cls.__name__.startswith("_"):
            PASSES.add(cls.name, cls, replace)

    def run(self, module: Module, ctx: Context) -> None:
        """Change `module` through `ctx`."""
        raise NotImplementedError(self.name)

    def __str__(self) -> str:
        """The pass and its options as the command line takes them: `quantize-weights{format=q4_0}`."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]  # made a dataclass above
        options = [f"{f.name}={_option(v)}" for f in fields if (v := getattr(self, f.name)) != f.default]
        return self.name + ("{" + ",".join(options) + "}" if options else "")

    __repr__ = __str__


def _option(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


PASSES: Registry[type[Pass]] = Registry("pass")


class RewritePass(Pass):
    """A list of rules, run to a fixpoint over every graph."""

    rules: ClassVar[tuple[type[Rule], ...]] = ()

    def __init_subclass__(cls, replace: bool = False) -> None:
        super().__init_subclass__(replace)
        if cls.rules:
            cls.exactness = max((r.exactness for r in cls.rules), key=_STRICTNESS.index)

    def run(self, module: Module, ctx: Context) -> None:
        """Match every node; then, as long as something changes, what changed and what looks at it."""
        rules = [r() for r in self.rules]
        for rule in rules:
            rule.options = self
        index: dict[type, list[tuple[Rule, Alternative]]] = {}
        for rule in rules:
            for alternative in rule.alternatives:
                index.setdefault(alternative.root_op, []).append((rule, alternative))
        depth = max((a.depth for r in rules for a in r.alternatives), default=1)
        for graph in module.every_graph:
            work = list(graph)
            for _ in range(_ROUNDS):
                changed = [made for node in work for made in self._visit(node, index, ctx)]
                work = _looking_at(changed, depth)
                if not work:
                    break
            else:
                raise PassError(f"{self.name}: rules undo each other: {_ROUNDS} rounds did not end")

    def _visit(self, node: Node, index: dict[type, list[tuple[Rule, Alternative]]], ctx: Context) -> list[Node]:
        if node.graph is None:
            return []
        ctx.visited += 1
        for rule, alternative in index.get(type(node.op), ()):
            made = self._try(node, rule, alternative, ctx)
            if made is not None:
                return made
        return []

    def _try(self, node: Node, rule: Rule, alternative: Alternative, ctx: Context) -> list[Node] | None:
        refused: tuple[Match, str] | None = None
        for match in alternative.matches(node):
            reason = other_users(match.nodes, match.roots)
            if reason is None:
                reason = rule.call(rule.where, match)
            if reason is None:
                build = partial(rule.call, rule.build, match)
                read = [v for n in match.nodes for v in n.operands]
                made = ctx.rewrite(rule, match.nodes, match.roots, build, aside=match.aside)
                if made is not None:  # where one user is left, another one is no longer in its way
                    return made + [u for v in read if len(v.uses) == 1 for u in v.users]
            elif reason and refused is None:
                refused = (match, reason)
        if refused is not None:
            ctx.remark(rule, refused[0].nodes, refused[0].roots, refused[1], refused[0].aside)
        return None


def _looking_at(nodes: Iterable[Node], depth: int) -> list[Node]:
    """The nodes, and those that see them within `depth` steps."""
    seen: dict[Node, None] = {n: None for n in nodes if n.graph is not None}
    edge = list(seen)
    for _ in range(depth):
        edge = [u for n in edge for o in n.outputs for u in o.users if u not in seen and u.graph and u in u.graph]
        seen.update(dict.fromkeys(edge))
    return list(seen)
