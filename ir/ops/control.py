"""Ops that carry graphs. A body reads only what it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from burnish.ir.op import Array, Arrays, Op
from burnish.ir.types import Type, require

if TYPE_CHECKING:
    from burnish.ir.graph import Graph


T = TypeVar("T")


class If(Op):
    """The first body's outputs where `condition`, one truth value, holds, else the second's."""

    bodies = 2
    widen = False
    takes_packed = True

    def infer(self, condition: Type, *operands: Type, bodies: Sequence[Graph]) -> tuple[Type, ...]:
        require(condition.dtype == "bool" and condition.elements == 1, f"if: {condition} is not one truth value")
        require(len(bodies) == 2, f"if: {len(bodies)} bodies")
        for body in bodies:
            given = [v.type for v in body.inputs]
            require(given == list(operands), f"if: body {body.name} takes {given}, is given {list(operands)}")
        then, other = ([v.type for v in b.outputs.values()] for b in bodies)
        require(then == other, f"if: the bodies return {then} and {other}")
        return tuple(then)

    def eval(self, xp: Arrays, condition: Array, *operands: Array, bodies: Sequence[Callable[..., Any]]) -> Any:
        if xp is np:
            return bodies[0 if condition.reshape(()) else 1](*operands)
        import jax

        return jax.lax.cond(condition.reshape(()), *bodies, *operands)


class Repeat(Op):
    """A body run `count` times, as a loop over blocks.

    Operands, in this order: `carries` values that go from one run to the next, `shared` values that every run reads,
    `states` stacks [count, …] of which each run reads its own and returns the new one, and stacks that are only read.
    The body takes (carries, shared, its states, its slices) and returns (carries, its new states, further values);
    the results are the last carries, the new stacks, and the further values of all runs, stacked.
    """

    count: int
    carries: int
    shared: int
    states: int
    bodies = 1
    widen = False
    takes_packed = True

    def infer(self, *operands: Type, bodies: Sequence[Graph]) -> tuple[Type, ...]:
        require(len(bodies) == 1 and self.count > 0, "repeat: needs one body and a count of 1 or more")
        fixed = self.carries + self.shared
        stacks = operands[fixed:]
        require(len(stacks) >= self.states, f"repeat: {self.states} states among {len(stacks)} stacks")
        for t in stacks:
            require(t.rank > 0 and t.shape[0] == self.count, f"repeat: {t} is not a stack of {self.count}")
        expected = [*operands[:fixed], *(t.with_shape(t.shape[1:]) for t in stacks)]
        given = [v.type for v in bodies[0].inputs]
        require(given == expected, f"repeat: the body takes {given}, is given {expected}")
        returned = [v.type for v in bodies[0].outputs.values()]
        wanted = [*operands[: self.carries], *expected[fixed : fixed + self.states]]
        further = returned[len(wanted) :]
        require(returned == [*wanted, *further], f"repeat: the body returns {returned}, not {wanted} and more")
        made = [t.with_shape((self.count, *t.shape)) for t in further]
        return (*operands[: self.carries], *stacks[: self.states], *made)

    def apart(self, operands: Sequence[T]) -> tuple[Sequence[T], Sequence[T], Sequence[T]]:
        """The carries, what is shared, and the stacks."""
        fixed = self.carries + self.shared
        return operands[: self.carries], operands[self.carries : fixed], operands[fixed:]

    def eval(self, xp: Arrays, *operands: Array, bodies: Sequence[Callable[..., Any]]) -> Any:
        from burnish.ir.format import Packed

        def at(x: Array, i: int) -> Array:
            if isinstance(x, Packed):
                return x.with_planes({k: p[i] for k, p in x.planes.items()}, x.shape[1:])
            return x[i]

        carries, shared, stacks = self.apart(operands)
        rest = []
        for i in range(self.count):
            results = bodies[0](*carries, *shared, *(at(x, i) for x in stacks))
            carries = results[: self.carries]
            rest.append(results[self.carries :])
        return (*carries, *map(xp.stack, zip(*rest, strict=True)))
