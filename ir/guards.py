"""Guards: what was assumed of the symbols, recorded in the module and checked when they are bound.

Two symbols that must broadcast are assumed equal; a slice is assumed to lie within its axis; a conclusion from shapes
alone (an imported mask is causal) is kept as the graph that computes it, which must come out all true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from burnish.ir.dims import Dim, at_most, bind, dim_text, is_plain
from burnish.ir.types import InferError

if TYPE_CHECKING:
    from burnish.ir.graph import Graph

__all__ = ["AllTrue", "AtMost", "Comparison", "Equal", "Guard", "assume_at_most", "assume_equal"]
__all__ += ["consultations", "is_at_most", "recording"]


@dataclass(frozen=True)
class Comparison:
    """Two dimensions, and how they compare."""

    a: Dim
    b: Dim
    name: ClassVar[str]
    sign: ClassVar[str]

    def __str__(self) -> str:
        return f"{self.name}({dim_text(self.a)}, {dim_text(self.b)})"

    def holds(self, a: int, b: int) -> bool:
        """Whether it is so of these numbers."""
        raise NotImplementedError(self.name)

    def broken(self, sizes: Mapping[str, int]) -> str | None:
        """How the sizes break it; None where they do not, or leave a symbol open."""
        a, b = bind(self.a, sizes), bind(self.b, sizes)
        if not isinstance(a, int) or not isinstance(b, int) or self.holds(a, b):
            return None
        return f"assumed that {dim_text(self.a)} {self.sign} {dim_text(self.b)}, but they are {a} and {b}"


class Equal(Comparison):
    """The two are the same number."""

    name, sign = "equal", "="

    def holds(self, a: int, b: int) -> bool:
        """Whether a = b."""
        return a == b


class AtMost(Comparison):
    """The first is not above the second."""

    name, sign = "at_most", "<="

    def holds(self, a: int, b: int) -> bool:
        """Whether a <= b."""
        return a <= b


@dataclass(frozen=True, eq=False)
class AllTrue:
    """Every element of the only output of `graph`, which has no inputs, is true. `reason` says what rests on it."""

    reason: str
    graph: Graph


Guard = Comparison | AllTrue


@dataclass
class _Recording:
    guards: list[Guard]
    extend: bool
    consulted: int = 0

    def known(self) -> list[Guard]:
        """The guards, for an answer that rests on which there are."""
        self.consulted += 1
        return self.guards


_NONE = _Recording([], False)
_recording: ContextVar[_Recording] = ContextVar("guards", default=_NONE)


@contextmanager
def recording(guards: list[Guard], extend: bool = True) -> Iterator[None]:
    """What is assumed within must be among `guards`, or is added to them where `extend`; else it is an InferError."""
    token = _recording.set(_Recording(guards, extend))
    try:
        yield
    finally:
        _recording.reset(token)


def consultations() -> int:
    """How often the guards of the innermost `recording` were asked; what asks none depends on no guard."""
    return _recording.get().consulted


def assume_equal(a: Dim, b: Dim, where: str) -> Dim:
    """The dimension that both are: proved, or assumed and recorded. Raises InferError for two different numbers."""
    if a == b:
        return a
    if isinstance(a, int) and isinstance(b, int):
        raise InferError(f"{where}: {a} against {b}")
    recording = _recording.get()
    known, guard = recording.known(), Equal(a, b)
    if guard not in known and Equal(b, a) not in known:
        if not recording.extend:
            raise InferError(f"{where}: {dim_text(a)} against {dim_text(b)}, and no guard says that they are equal")
        known.append(guard)
    return a if isinstance(a, int) or not isinstance(b, int) else b


def is_at_most(a: Dim, b: Dim) -> bool | None:
    """Whether a <= b: proved or recorded (True), disproved (False), or neither (None)."""
    proved = at_most(a, b)
    if proved is None and any(isinstance(g, AtMost) and _follows(a, b, g) for g in _recording.get().known()):
        return True
    return proved


def _follows(a: Dim, b: Dim, guard: AtMost) -> bool:
    if at_most(a, guard.a) and at_most(guard.b, b):
        return True
    if all(map(is_plain, (a, b, guard.a, guard.b))):
        return False
    return at_most(a + guard.b, guard.a + b) is True


def assume_at_most(a: Dim, b: Dim, where: str) -> None:
    """a <= b: proved, or assumed and recorded. Raises InferError where it never is."""
    known = is_at_most(a, b)
    if known:
        return
    if known is False:
        raise InferError(f"{where}: {dim_text(a)} is more than {dim_text(b)}")
    recording = _recording.get()
    if not recording.extend:
        raise InferError(f"{where}: {dim_text(a)} against {dim_text(b)}, and no guard says that it is at most that")
    recording.known().append(AtMost(a, b))


def assume_sizes(dims: Iterable[Dim], where: str) -> None:
    """Dimensions that become sizes are not negative: proved, or assumed. Raises InferError."""
    for d in dims:
        assume_at_most(0, d, where)


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
