"""Building graphs: `op.add(a, b)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from burnish.ir import guards
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.guards import Guard
from burnish.ir.leaves import Constant, Weight
from burnish.ir.literal import Literal
from burnish.ir.op import Op, find_op
from burnish.ir.origin import Origin, dotted
from burnish.ir.types import NUMPY, InferError, Type

__all__ = ["Ops", "arranged"]


class Ops:
    """Builds nodes: `op.add(a, b)` infers the type, makes the node, returns its value; several can be unpacked from it.

    A Python number becomes a constant of the other operands' element type.
    """

    def __init__(self, graph: Graph, origin: Origin | None = None, may_assume: bool = True) -> None:
        self.graph = graph
        self.fixed = origin  # every node made gets this origin; otherwise each gets one of its own
        self.may_assume = may_assume  # whether what a node assumes of symbols becomes a guard of the module
        self.assumed: list[Guard] = []  # what was said by `assume`
        self.made: list[Node] = []
        self.leaves: list[Node] = []  # weights and constants that were not there before
        self._scope: list[str] = []
        self._counts: dict[str, int] = {}

    def __getattr__(self, name: str) -> Callable[..., Value]:
        if name.startswith("__"):
            raise AttributeError(name)
        cls = find_op(name)

        def make(*operands: Any, bodies: Sequence[Graph] = (), **named: Any) -> Value:
            inputs = self.values(arranged(cls, operands, named))
            return self.emit(_construct(cls, named), inputs, bodies)

        return make

    def values(self, operands: Sequence[Any]) -> list[Value | None]:
        """Operands with numbers made into constants."""
        plain = (v.dtype for v in operands if isinstance(v, Value) and v.dtype in NUMPY)
        dtype = next((d for d in plain if d != "bool"), "f32")  # a condition is no hint

        def value(v: Any) -> Value | None:
            if v is None or isinstance(v, Value):
                return v
            return self.constant(v, "bool" if isinstance(v, bool) else dtype)

        return list(map(value, operands))

    def emit(self, op: Op, inputs: Sequence[Value | None], bodies: Sequence[Graph] = ()) -> Value:
        """Add a node of `op`. Raises InferError where the op does not accept the operands."""
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        known = self.graph.module.guards
        with guards.recording(known if self.may_assume else [*known, *self.assumed], self.may_assume):
            keywords = {"bodies": tuple(bodies)} if op.bodies else {}
            types = op.results(*(v.type if v is not None else None for v in given), **keywords)
        return self.emit_typed(op, given, types, bodies)

    def again(self, node: Node, changed: Op | None = None, /, **operands: Value | None) -> Value:
        """Add a node like `node`, of the op `changed` where one is given, with these operands in the place of its own.

        None leaves an operand out. Raises InferError.
        """
        op, inputs = changed or node.op, list(node.inputs)
        for name, value in operands.items():
            at = op.position(name)
            inputs += [None] * (at + 1 - len(inputs))
            inputs[at] = value
        return self.emit(op, inputs, node.bodies)

    def emit_typed(
        self, op: Op, inputs: Sequence[Value | None], types: Sequence[Type], bodies: Sequence[Graph] = ()
    ) -> Value:
        """Add a node whose result types are known."""
        before = len(self.graph)
        node = self.graph.emit(op, inputs, types, self.origin(op), bodies)
        if len(self.graph) > before:
            self.made.append(node)
        return node.out

    def origin(self, op: Op) -> Origin:
        """The origin of the next node: its scope, and a name that no other node has."""
        if self.fixed is not None:
            return self.fixed
        scope = ".".join(self._scope)
        key = f"{self.graph.name}:{scope}:{op.name}" if scope else f"{self.graph.name}:{op.name}"
        n = self._counts[key] = self._counts.get(key, 0) + 1
        return Origin(scope, (key if n == 1 else f"{key}.{n}",))

    @contextmanager
    def scope(self, path: str) -> Iterator[None]:
        """Nodes made within belong to this module path, under the one around."""
        self._scope.append(path)
        try:
            yield
        finally:
            self._scope.pop()

    @contextmanager
    def block(self, stack: str, index: int) -> Iterator[None]:
        """Nodes made within belong to block `index` of the blocks that are called `stack`, under the path around."""
        with self.scope(f"{stack}[{index}]"):
            yield

    def path(self, *names: str) -> str:
        """The path of modules around, and these names under it, as parameters are called: `model.layers.3.norm`."""
        return ".".join(filter(None, [dotted(".".join(self._scope)), *names]))

    @contextmanager
    def at(self, origin: Origin) -> Iterator[None]:
        """Nodes made within have this origin."""
        before, self.fixed = self.fixed, origin
        try:
            yield
        finally:
            self.fixed = before

    def assume(self, guard: Guard) -> None:
        """Rest what is built on a guard, which becomes the module's with it."""
        self.assumed.append(guard)

    def constant(self, value: Any, dtype: str | None = None) -> Value:
        """A constant; a Python number or list gets `dtype` (f32 unless given), an array keeps its own."""
        if dtype is None and not isinstance(value, np.ndarray | np.generic):
            dtype = "f32"
        literal = Literal(np.array(value, dtype=NUMPY[dtype] if dtype else None))
        op = Constant(value=literal)
        return self._leaf(op, op.infer())

    def weight(self, tensor: str) -> Value:
        """The leaf of a tensor in the module's table. Raises InferError where it is not there."""
        entry = self.graph.module.weights.get(tensor)
        if entry is None:
            raise InferError(f"there is no weight {tensor!r}")
        return self._leaf(Weight(tensor=tensor), entry.type)

    def _leaf(self, op: Op, type: Type) -> Value:
        before = len(self.graph)
        node = self.graph.emit(op, [], [type], Origin())
        if len(self.graph) > before:
            self.leaves.append(node)
        return node.out


def arranged(cls: type[Op], operands: Sequence[Any], named: dict[str, Any]) -> list[Any]:
    """Operands in order: those given by position, and those that are taken out of `named` by their names."""
    every = list(operands)
    for position, operand in enumerate(cls.operands()):
        if operand.name in named and operand.name not in cls.fields():
            every += [None] * (position + 1 - len(every))
            every[position] = named.pop(operand.name)
    return every


def _construct(cls: type[Op], attributes: dict[str, Any]) -> Op:
    unknown = [k for k in attributes if k not in cls.fields()]
    missing = [k for k in cls.fields() if k not in attributes and k not in cls.defaults()]
    if unknown or missing:
        what = f"does not have {unknown}" if unknown else f"needs {missing}"
        raise InferError(f"{cls.name} {what}; its attributes are {list(cls.fields())}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()})
