"""Patterns: a rule's `match`, traced into the shape of graph that it stands for, and the search for it.

A parameter of `match` is a value (the same name twice is the same value); `Const` asks for a constant, a default of
None allows an absent operand, `*xs` takes all operands, a keyword-only parameter captures an attribute. A number stands
for a constant of that value, `op.maybe_cast(x)` for x behind any number of casts from float to float, `p[i]` for a
result by index, a list for alternatives, a tuple for several roots that share an operand. An attribute that is not
mentioned must have its default. `op.aside(p)` is read but not replaced: it may have other users, and stays for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import numpy as np

from burnish.ir.builder import arranged
from burnish.ir.graph import Node, Value
from burnish.ir.leaves import Constant
from burnish.ir.literal import attribute_text
from burnish.ir.op import Op, find_op

__all__ = ["Alternative", "Const", "Match", "Pattern", "trace"]

Pattern = Any  # what `match` returns: calls on `op`, alone, in a list or in a tuple
Bindings = dict[str, Any]


class Const(Value):
    """Annotates a parameter of `match` that must be a constant."""


@dataclass(frozen=True)
class _Variable:
    name: str
    optional: bool = False
    constant: bool = False


@dataclass(frozen=True)
class _Rest:
    name: str

    def __iter__(self) -> Iterator[_Rest]:  # lets `match` write op.concat(*xs)
        yield self


@dataclass(frozen=True)
class _Attribute:
    name: str


@dataclass(frozen=True, eq=False)
class _Call:
    """A node of `cls`. With `skip`, any number of them, none included, around the one argument."""

    cls: type[Op]
    arguments: tuple[Any, ...]
    attributes: tuple[tuple[str, Any], ...]
    index: int = 0
    skip: bool = False
    same_node: object = field(default_factory=object)  # p[0] and p[1] must be results of one node
    aside: bool = False

    def __getitem__(self, index: int) -> _Call:
        return replace(self, index=index)

    def __iter__(self) -> Iterator[_Call]:
        raise TypeError("a pattern cannot be unpacked: take its results by index")

    @property
    def depth(self) -> int:
        inner = max((a.depth for a in self.arguments if isinstance(a, _Call)), default=0)
        return inner + (3 if self.skip else 1)

    @property
    def variables(self) -> Iterator[str]:
        for a in self.arguments:
            if isinstance(a, _Call):
                yield from a.variables
            elif isinstance(a, _Variable):
                yield a.name


class _Tracer:
    """Stands for `op` while a `match` is traced."""

    def aside(self, pattern: _Call) -> _Call:
        arguments = tuple(self.aside(a) if isinstance(a, _Call) else a for a in pattern.arguments)
        return replace(pattern, arguments=arguments, aside=True)

    def __getattr__(self, name: str) -> Callable[..., _Call]:
        if name.startswith("maybe_"):
            return lambda x: _Call(find_op(name.removeprefix("maybe_")), (x,), (), skip=True)
        cls = find_op(name)

        def call(*operands: Any, **attributes: Any) -> _Call:
            arguments = tuple(arranged(cls, operands, attributes))
            defaults = cls.defaults()
            missing = [k for k in cls.fields() if k not in attributes and k not in defaults]
            unknown = [k for k in attributes if k not in cls.fields()]
            if missing or unknown:
                raise TypeError(f"a pattern of {cls.name} must say {missing}, and not {unknown}")
            wanted = tuple((k, attributes.get(k, defaults.get(k))) for k in cls.fields())
            return _Call(cls, arguments, wanted)

        return call


@dataclass
class Match:
    """A place where a pattern fits: what its names are bound to, the nodes it covers, and those that it replaces.

    `aside` are the nodes that are read only.
    """

    bindings: Bindings
    nodes: list[Node]
    roots: list[Value]
    aside: list[Node]


@dataclass(frozen=True)
class Alternative:
    """One graph shape of a pattern: its roots."""

    roots: tuple[_Call, ...]
    optional: tuple[str, ...]

    @property
    def root_op(self) -> type[Op]:
        """The op that the first root is a node of."""
        return self.roots[0].cls

    @property
    def depth(self) -> int:
        """How many nodes deep the pattern looks."""
        return max(r.depth for r in self.roots) + len(self.roots) - 1

    def matches(self, node: Node) -> Iterator[Match]:
        """Every way in which the pattern fits with its first root at `node`."""
        root = self.roots[0]
        if type(node.op) is not root.cls or root.index >= len(node.outputs):
            return
        value = node.outputs[root.index]
        for state in _solve(((root, value), None), _State({}, {}, [], [])):
            yield from self._further(1, [value], state)

    def _further(self, k: int, roots: list[Value], state: _State) -> Iterator[Match]:
        if k == len(self.roots):
            bindings = state.bindings | {n: state.bindings.get(n) for n in self.optional}
            yield Match(bindings, list(dict.fromkeys(state.nodes)), roots, list(dict.fromkeys(state.aside)))
            return
        pattern = self.roots[k]
        shared = next((n for n in pattern.variables if isinstance(state.bindings.get(n), Value)), None)
        if shared is None:
            raise TypeError("the roots of a pattern must share an operand")
        taken = {v.node for v in roots}
        for user in _near(state.bindings[shared], pattern.depth):
            if user in taken or type(user.op) is not pattern.cls or pattern.index >= len(user.outputs):
                continue
            value = user.outputs[pattern.index]
            for found in _solve(((pattern, value), None), state):
                yield from self._further(k + 1, [*roots, value], found)


def trace(match: Callable[..., Pattern]) -> list[Alternative]:
    """The alternatives of a bound `match` method."""
    parameters = list(inspect.signature(match).parameters.values())[1:]
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    optional = []
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            positional.append(_Rest(p.name))
        elif p.kind is p.KEYWORD_ONLY:
            keywords[p.name] = _Attribute(p.name)
        else:
            positional.append(_Variable(p.name, p.default is None, "Const" in str(p.annotation)))
            if p.default is None:
                optional.append(p.name)
    traced = match(_Tracer(), *positional, **keywords)
    shapes = [s if isinstance(s, tuple) else (s,) for s in (traced if isinstance(traced, list) else [traced])]
    if any(not isinstance(root, _Call) or root.skip for roots in shapes for root in roots):
        raise TypeError("a pattern must begin with an op that is surely there")
    return [Alternative(roots, tuple(optional)) for roots in shapes]


# ------------------------------------------------------------------------------------------------------------ search


@dataclass
class _State:
    bindings: Bindings
    calls: dict[object, Node]
    nodes: list[Node]
    aside: list[Node]

    def copy(self) -> _State:
        return _State({**self.bindings}, {**self.calls}, [*self.nodes], [*self.aside])


Goals = Any  # a linked list: ((pattern, value), rest) or None


def _solve(goals: Goals, state: _State) -> Iterator[_State]:
    """All ways to meet every goal; commutative operands and skipped casts are where ways part."""
    state = state.copy()
    while goals is not None:
        (pattern, value), goals = goals
        if isinstance(pattern, _Call) and pattern.skip:
            while True:
                yield from _solve(((pattern.arguments[0], value), goals), state)
                if value is None or value.node is None or type(value.node.op) is not pattern.cls:
                    return
                inner = value.node[pattern.cls.operand(0)]
                if not (value.type.is_float and inner.type.is_float):
                    return  # what a cast to integers takes away is no rounding
                (state.aside if pattern.aside else state.nodes).append(value.node)
                value = inner
        if isinstance(pattern, _Call):
            node = value.node if value is not None else None
            if node is None or type(node.op) is not pattern.cls or value.index != pattern.index:
                return
            if state.calls.setdefault(pattern.same_node, node) is not node:
                return
            if not _attributes_fit(pattern, node, state.bindings):
                return
            (state.aside if pattern.aside else state.nodes).append(node)
            if any(isinstance(a, _Rest) for a in pattern.arguments):
                if not _bind_rest(pattern, node, state.bindings):
                    return
                continue
            pairs = list(zip_longest(pattern.arguments, node.inputs))
            if pattern.cls.commutative and not _indifferent(pattern.arguments[:2], state.bindings):
                (p, v), (q, w) = pairs[:2]
                yield from _solve(((p, w), ((q, v), goals)), state)
            for pair in reversed(pairs):
                goals = (pair, goals)
        elif not _fits(pattern, value, state.bindings):
            return
    yield state


def _attributes_fit(pattern: _Call, node: Node, bindings: Bindings) -> bool:
    for key, wanted in pattern.attributes:
        found = getattr(node.op, key)
        if isinstance(wanted, _Attribute):
            if wanted.name not in bindings:
                bindings[wanted.name] = found
                continue
            wanted = bindings[wanted.name]
        if attribute_text(found) != attribute_text(wanted):
            return False
    return True


def _bind_rest(pattern: _Call, node: Node, bindings: Bindings) -> bool:
    if len(pattern.arguments) != 1:
        raise TypeError(f"a pattern of {pattern.cls.name} takes *operands alone")
    name = pattern.arguments[0].name
    return bool(bindings.setdefault(name, tuple(node.inputs)) == tuple(node.inputs))


def _indifferent(arguments: tuple[Any, ...], bindings: Bindings) -> bool:
    """Whether exchanging two operands could not lead to another match: both are free variables."""
    free = (isinstance(a, _Variable) and not a.constant and a.name not in bindings for a in arguments)
    return all(free)


def _fits(pattern: Any, value: Value | None, bindings: Bindings) -> bool:
    if isinstance(pattern, _Variable):
        if pattern.name in bindings:
            return bindings[pattern.name] is value
        if value is None and not pattern.optional:
            return False
        if pattern.constant and (value is None or value.literal is None):
            return False
        bindings[pattern.name] = value
        return True
    if pattern is None:
        return value is None
    if isinstance(pattern, int | float) and value is not None and isinstance(value.op, Constant):
        data = value.literal
        if data is None or data.size != 1 or (data.dtype.kind in "iu" and pattern != int(pattern)):
            return False
        return bool(np.all(data == np.asarray(pattern).astype(data.dtype)))
    return False


def _near(value: Value, depth: int) -> Iterator[Node]:
    """The users of a value, their users, and so on, up to `depth` nodes away."""
    seen: dict[Node, None] = {}
    edge = [value]
    for _ in range(depth):
        users = [u for v in edge for u in v.users if u not in seen]
        seen.update(dict.fromkeys(users))
        edge = [o for u in users for o in u.outputs]
    yield from seen
