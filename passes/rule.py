"""Rules: what is replaced by what."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, ClassVar, Literal

from burnish.ir.builder import Ops
from burnish.ir.graph import Node
from burnish.ir.op import Op
from burnish.ir.registry import Registry
from burnish.passes.pattern import Alternative, Match, Pattern, trace

__all__ = ["RULES", "Exactness", "Rule"]

Exactness = Literal["exact", "rounding", "lossy"]


class Rule:
    """A rewrite: `match` is the expression it looks for, `where` says None or why not, `build` makes the replacement.

    The docstring is `before -> after`. `where` and `build` take any of the names of `match`; `out` is the (first) value
    that is replaced, `outs` are all of them. `where` answers "" for what goes without saying, because the pattern is
    wider than the rule: that is refused without a remark.

    What no pattern can say, `find` does, at nodes of the ops in `at`: it yields the places where the rule fits. An
    instance lives for one run of its pass, and may remember.

    `example` names a type (or a constant) for each operand and a value for each attribute, so that the rule can be
    tested on an instance of its own pattern: see `burnish.testing.check_rule`. Of a rule without a pattern it is the
    text of a module.
    """

    exactness: ClassVar[Exactness] = "exact"
    example: ClassVar[dict[str, Any] | str] = {}
    #: the ops that `find` looks at; those of the roots of `match`, unless given
    at: ClassVar[tuple[type[Op], ...]] = ()
    #: the pass that runs the rule: its options are fields of this
    options: Any = None

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

    def find(self, node: Node) -> Iterator[Match]:
        """The ways in which the rule fits with its first root at `node`."""
        for alternative in self.alternatives:
            yield from alternative.matches(node)

    @property
    def name(self) -> str:
        """The class's name."""
        return type(self).__name__

    @property
    def alternatives(self) -> list[Alternative]:
        """The traced pattern; none where `find` is the rule's own."""
        found = self.__dict__.get("_alternatives")
        if found is None:
            found = self.__dict__["_alternatives"] = trace(self.match) if hasattr(self, "match") else []
        return found

    @property
    def roots(self) -> tuple[type[Op], ...]:
        """The ops at which it can begin."""
        return self.at or tuple(dict.fromkeys(a.root_op for a in self.alternatives))

    @property
    def depth(self) -> int:
        """How many nodes deep it looks."""
        return max((a.depth for a in self.alternatives), default=1)

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
