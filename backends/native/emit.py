"""What kernels write: the calls of a program, and the phases that they are put together to."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from burnish.backends.native.cpu import InstructionSet
from burnish.backends.native.tensor import Memory, PackedTensor, Tensor, Value
from burnish.ir.types import NUMPY, Type

__all__ = ["Argument", "Call", "Code", "Emitter", "Phase", "phases_of", "word_of"]


class Code(NamedTuple):
    """A function of a unit of code; as an argument, what the function that is called calls."""

    unit: str
    function: str


Argument = Tensor | Code | int | float | None


@dataclass(eq=False)
class Call:
    """A function of a unit of code, on items [0, items); it may be called for any part of them at once.

    `by_row`: item i reads and writes of each tensor no row but the i-th, so that calls on as many rows may follow
    each other row by row. Otherwise all must be done before the next call.
    """

    unit: str
    function: str
    arguments: tuple[Argument, ...]
    items: int
    by_row: bool
    grain: int  # items that are worth a thread's while; chunks are multiples of it
    writes: frozenset[Memory]
    scratch: int  # bytes that each thread needs

    @cached_property
    def tensors(self) -> list[Tensor]:
        """What it reads or writes."""
        return [a for a in self.arguments if isinstance(a, Tensor)]

    @property
    def code(self) -> list[Code]:
        """The function, and those that it calls."""
        return [Code(self.unit, self.function), *(a for a in self.arguments if isinstance(a, Code))]


class Phase:
    """Calls that threads do chunk by chunk, each chunk with all of them; all is done before the next phase begins."""

    def __init__(self, call: Call) -> None:
        self.calls: list[Call] = []
        self._written: set[Memory] = set()
        self._users: dict[Memory, list[Tensor]] = {}
        self.add(call)

    @property
    def items(self) -> int:
        """Its items."""
        return self.calls[0].items

    @property
    def grain(self) -> int:
        """How many items are worth a thread's while; an item is worth what all calls do."""
        return min(c.grain for c in self.calls)

    def add(self, call: Call) -> None:
        """One more call, behind the others."""
        self.calls.append(call)
        self._written |= call.writes
        for t in call.tensors:
            self._users.setdefault(t.memory, []).append(t)

    def takes(self, call: Call) -> bool:
        """Whether a call may follow within the phase: what it shares with others lies in the same rows for all."""
        if not call.by_row or not self.calls[0].by_row or call.items != self.items:
            return False
        for memory in dict.fromkeys(t.memory for t in call.tensors if t.memory in self._users):
            if memory in self._written or memory in call.writes:
                mine = [t for t in call.tensors if t.memory is memory]
                if not _same_rows([*self._users[memory], *mine], call.items):
                    return False
        return True


def _same_rows(tensors: Sequence[Tensor], items: int) -> bool:
    """Whether the i-th row of each lies where that of every other does, for all of so many items."""
    strides, offsets = {_row_stride(t, items) for t in tensors}, [t.offset for t in tensors]
    stride = strides.pop()
    return not strides and stride is not None and (items == 1 or max(offsets) - min(offsets) < stride)


def _row_stride(t: Tensor, items: int) -> int | None:
    """The bytes between rows, of which the leading axes make `items`; None where they do not, or these vary."""
    for axes in range(len(t.shape), -1, -1):
        if math.prod(t.shape[: len(t.shape) - axes]) == items and (rows := t.rows(axes)) is not None:
            return rows[1]
    return None


def phases_of(calls: Sequence[Call]) -> list[Phase]:
    """Calls in order, those that may follow each other chunk by chunk put together."""
    phases: list[Phase] = []
    for call in calls:
        if phases and phases[-1].takes(call):
            phases[-1].add(call)
        else:
            phases.append(Phase(call))
    return phases


@dataclass
class Emitter:
    """Takes down what a kernel wants to be called for one node."""

    isa: InstructionSet
    threads: int
    calls: list[Call] = field(default_factory=list)
    _made: dict[Hashable, Tensor] = field(default_factory=dict)

    @property
    def scratch(self) -> int:
        """The bytes that each thread needs for these calls."""
        return max((c.scratch for c in self.calls), default=0)

    def empty(self, type: Type) -> Value:
        """Memory for a result, whose sizes are known: rows without gaps."""
        if type.format is None:
            return self.buffer(type.sizes, NUMPY[type.dtype])
        row = type.format.row_bytes(type.sizes[-1])
        plane = self.buffer((*type.sizes[:-1], row), np.dtype("u1"))
        return PackedTensor(type.dtype, "", type.sizes, {"bytes": plane})

    def buffer(self, shape: Sequence[int], dtype: np.dtype) -> Tensor:
        """Memory that the program uses."""
        array = np.empty(tuple(shape), dtype)
        return Tensor(Memory(array, "made"), array)

    def once(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """What `make` makes, for later nodes too that ask by the same key; a tensor in it is equal to itself alone."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def call(
        self,
        unit: str,
        function: str,
        *arguments: Argument,
        items: int,
        writes: Sequence[Tensor],
        by_row: bool = False,
        grain: int = 1,
        scratch: int = 0,
    ) -> None:
        """Call function(address of the arguments, first item, end, address of the thread's `scratch` bytes)."""
        if items:
            memories = frozenset(t.memory for t in writes)
            self.calls.append(Call(unit, function, arguments, items, by_row, grain, memories, scratch))


def word_of(argument: Argument) -> int:
    """The word of an argument that is no address: an f32 is its low half."""
    if isinstance(argument, float):
        return int(struct.unpack("<I", struct.pack("<f", argument))[0])
    return 0 if argument is None else int(argument)  # type: ignore[arg-type]  # addresses are found elsewhere
