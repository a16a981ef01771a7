"""How an op goes on from one step to the next: independent of other tokens, with a state, or refused.

A graph that reads whole sequences becomes one that reads them in steps: `insert-state` asks each op, in order,
`Op.stateful`. A step has S new tokens of each sequence, of which `count[b]` are real; `past[b]` came before them. What
an op says nothing of is refused with its node, rather than computed from a step's tokens alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from burnish.ir.dims import Dim, symbols_of
from burnish.ir.walk import every_graph

if TYPE_CHECKING:
    from burnish.ir.builder import Ops
    from burnish.ir.graph import Node, Value
    from burnish.ir.types import Type

__all__ = ["INDEPENDENT", "Independent", "Refused", "Steps", "by_along", "in_steps", "token_axes"]


class Independent:
    """The results of each token are made of that token alone, or of none."""


INDEPENDENT = Independent()


@dataclass(frozen=True)
class Refused:
    """The node cannot be computed in steps, and why."""

    reason: str


class Steps(Protocol):
    """What earlier steps left, as an op asks for it. Values with tokens have them along axis 1, behind the batch.

    A state is called by its label, with a number.
    """

    #: the symbol of the number of tokens in a step
    tokens: str
    #: the rows of a state that grows, at least as many as there are tokens so far
    capacity: Dim

    @property
    def past(self) -> Value:
        """i32[B]: how many tokens came before."""

    @property
    def count(self) -> Value:
        """i32[B]: how many of the step's tokens are real."""

    def carries_tokens(self, value: Value) -> bool:
        """Whether a value has tokens. Raises InferError where it has them along another axis."""

    def rows(self, label: str, new: Value) -> Value:
        """new[B, S, …] behind those of all earlier tokens: [B, C, …], row j of token j; what follows is not defined."""

    def before(self, label: str, new: Value, rows: int, exact: bool = False) -> Value:
        """Of new[B, S, …], those of the `rows` tokens before the step, in order, zeros where there were none.

        They may be fewer where there are never so many tokens, unless `exact`.
        """

    def carry(self, label: str, type: Type, step: Any) -> Sequence[Value]:
        """A value that each step replaces, zeros at first: what `step(old)` builds, the new one first."""


def token_axes(type: Type, tokens: str) -> list[int]:
    """The axes of a type that depend on the number of tokens."""
    return [i for i, d in enumerate(type.shape) if tokens in symbols_of(d)]


def in_steps(op: Ops, node: Node, state: Steps) -> Any:
    """What the node's op says, or else what follows from `along`."""
    answer = node.op.stateful(op, node, state)
    return by_along(node, state.tokens) if answer is NotImplemented else answer


def by_along(node: Node, tokens: str) -> Independent | Refused:
    """What follows from `Op.along`: independent where tokens run along an axis of every result, or have no part."""
    along: set[int] = set()
    types = [None if v is None else v.type for v in node.inputs]
    for position, (t, axes) in enumerate(zip(types, node.op.along(*types), strict=True)):
        found = token_axes(t, tokens) if t is not None else []
        if len(found) > 1:
            return Refused(f"its operand {node.op.operand(position)}, {t}, has tokens along two axes")
        for axis in found:
            to = axes[axis]
            if to is None:
                return Refused(f"it mixes the tokens of its operand {node.op.operand(position)}, {t}")
            along.add(to)
    if len(along) > 1:
        return Refused("it sets tokens against each other")
    for o in node.outputs:
        if set(token_axes(o.type, tokens)) - along:
            return Refused("it counts tokens from 0, and does not know how many came before")
    if not along and tokens in node.op.symbols:
        return Refused("it counts tokens from 0, and does not know how many came before")
    if any(tokens in o.type.symbols for body in every_graph(node.bodies) for n in body for o in n.outputs):
        return Refused("tokens have a part in a graph that it holds")
    return INDEPENDENT
