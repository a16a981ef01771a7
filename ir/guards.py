"""Guards: what was assumed of the symbols, recorded in the module and checked when they are bound.

Two symbols that must broadcast are assumed equal; a conclusion from shapes alone (an imported mask is causal) is kept
as the graph that computes it, which must come out all true.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from burnish.ir.dims import Dim, dim_text
from burnish.ir.types import InferError

if TYPE_CHECKING:
    from burnish.ir.graph import Graph

__all__ = ["AllTrue", "Equal", "Guard", "assume_equal", "recording"]


@dataclass(frozen=True)
class Equal:
    """Two dimensions are the same number."""

    a: Dim
    b: Dim

    def __str__(self) -> str:
        return f"equal({dim_text(self.a)}, {dim_text(self.b)})"


@dataclass(frozen=True, eq=False)
class AllTrue:
    """Every element of the only output of `graph`, which has no inputs, is true. `reason` says what rests on it."""

    reason: str
    graph: Graph


@dataclass(frozen=True)
class AtMost:
    """One dimension is at most another."""

    a: Dim
    b: Dim


Guard = Equal | AllTrue
_recording: ContextVar[tuple[list[Guard], bool]] = ContextVar("guards", default=([], False))


@contextmanager
def recording(guards: list[Guard], extend: bool = True) -> Iterator[None]:
    """What is assumed within must be among `guards`, or is added to them where `extend`; else it is an InferError."""
    token = _recording.set((guards, extend))
    try:
        yield
    finally:
        _recording.reset(token)


def assume_equal(a: Dim, b: Dim, where: str) -> Dim:
    """The dimension that both are: proved, or assumed and recorded. Raises InferError for two different numbers."""
    if a == b:
        return a
    if isinstance(a, int) and isinstance(b, int):
        raise InferError(f"{where}: {a} against {b}")
    known, extend = _recording.get()
    guard = Equal(a, b)
    if guard not in known and Equal(b, a) not in known:
        if not extend:
            raise InferError(f"{where}: {dim_text(a)} against {dim_text(b)}, and no guard says that they are equal")
        known.append(guard)
    return a if isinstance(a, int) or not isinstance(b, int) else b


def broadcast(*shapes: tuple[Dim, ...], where: str) -> tuple[Dim, ...]:
    """NumPy's broadcasting over symbolic shapes. A symbol against a number above 1 is assumed to be that number."""
    rank = max(len(s) for s in shapes)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        for i, d in enumerate(shape, start=rank - len(shape)):
            if result[i] == 1:
                result[i] = d
            elif d != 1:
                result[i] = assume_equal(result[i], d, where)
    return tuple(result)
