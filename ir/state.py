"""How an op goes on from one step to the next: independent of other tokens, with a state, or refused.

A graph that reads whole sequences becomes one that reads them in steps: `insert-state` asks each op, in order,
`Op.stateful`. A step has S new tokens of each sequence, of which `count[b]` are real; `past[b]` came before them. What
an op says nothing of is refused with its node, rather than computed from a step's tokens alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from burnish.ir.dims import Dim, symbols_of
from burnish.ir.guards import recording
from burnish.ir.signature import COUNT
from burnish.ir.walk import every_graph

if TYPE_CHECKING:
    from burnish.ir.builder import Ops
    from burnish.ir.graph import Node, Value
    from burnish.ir.types import Type

__all__ = ["INDEPENDENT", "Independent", "Refused", "Steps", "axes_with", "beyond", "by_along", "in_steps"]


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
    #: what a symbol counts: tokens, of a step or of a state, or sequences
    symbols: Mapping[str, str]
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


def beyond(value: Value, state: Steps) -> Dim | None:
    """What positions, and what is made of them by numbers, stay below in every step; None where that is not known."""
    found = _most(value, state)
    return None if found is None else found + 1


def _most(value: Value, state: Steps) -> Dim | None:
    node = value.node
    if node is None:
        return None
    match node.op.name:
        case "positions":
            return state.capacity - 1
        case "cast" | "unsqueeze" | "squeeze" | "reshape" | "broadcast_to" | "transpose":
            return _most(node["x"], state)
        case "add" | "sub" | "mul":
            a, b = node["a"], node["b"]
            if a.literal is not None and node.op.name != "sub":
                a, b = b, a
            most, number = _most(a, state), _integer(b)
            if most is None or number is None:
                return None
            if node.op.name == "mul":
                return most * number if number >= 0 else None
            return most + (number if node.op.name == "add" else -number)
    return None


def _integer(value: Value) -> int | None:
    """The one integer that a constant is, in whatever type."""
    data = value.literal
    if data is None or data.size != 1 or data.dtype == bool or not float(data.item()).is_integer():
        return None
    return int(data.item())


def axes_with(type: Type, symbol: str) -> list[int]:
    """The axes of a type that depend on a symbol: that of tokens, of sequences, of rows."""
    return [i for i, d in enumerate(type.shape) if symbol in symbols_of(d)]


def in_steps(op: Ops, node: Node, state: Steps) -> Any:
    """What the node's op says, or else what follows from `along`."""
    with recording([*op.graph.module.guards, *op.assumed], extend=False):
        answer = node.op.stateful(op, node, state)
        answer = by_along(node, state) if answer is NotImplemented else answer
    if isinstance(answer, Independent) and any(v.role == COUNT for v in node.operands):
        return Refused("it reads how many tokens are real, which a step knows of its own alone")
    return answer


def by_along(node: Node, state: Steps) -> Independent | Refused:
    """What follows from `Op.along`: independent where tokens, and rows of states, run along an axis of every result.

    So must sequences, which come to different lengths. Raises InferError where the op does not take what stands for
    its operands in a step.
    """
    types = [None if v is None else v.type for v in node.inputs]
    along: dict[str, set[int]] = {symbol: set() for symbol in state.symbols}
    for position, (t, axes) in enumerate(zip(types, node.op.along(*types), strict=True)):
        for symbol, what in state.symbols.items():
            found = axes_with(t, symbol) if t is not None else []
            if len(found) > 1:
                return Refused(f"its operand {node.op.operand(position)}, {t}, has {what} along two axes")
            if any(axes[i] is None for i in found):
                return Refused(f"it mixes the {what} of its operand {node.op.operand(position)}, {t}")
            along[symbol].update(to for i in found if (to := axes[i]) is not None)
    results = [o.type for o in node.outputs] if node.bodies else node.op.results(*types)
    for symbol, what in state.symbols.items():
        if len(along[symbol]) > 1:
            return Refused(f"it sets {what} against each other")
        for t in results:
            if along[symbol] - set(axes_with(t, symbol)):
                return Refused(f"its result {t} is made of some of the {what} alone, or of all")
            if what != "sequences" and set(axes_with(t, symbol)) - along[symbol]:
                return Refused("it counts tokens from 0, and does not know how many came before")
        if what != "sequences" and symbol in node.op.symbols:
            return Refused("it counts tokens from 0, and does not know how many came before")
        if any(symbol in o.type.symbols for body in every_graph(node.bodies) for n in body for o in n.outputs):
            return Refused(f"{what} have a part in a graph that it holds")
    return INDEPENDENT
