"""Programs: consecutive nodes that have native kernels as one call of compiled code on every thread."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from burnish.backends.native.code import addresses
from burnish.backends.native.cpu import InstructionSet
from burnish.backends.native.emit import Call, Code, Phase, phases_of, word_of
from burnish.backends.native.tensor import Memory, PackedTensor, RingRows, Tensor, Value, rows_in_order, tensors
from burnish.backends.native.threads import function_at, team
from burnish.ir.format import Packed
from burnish.ir.op import Array

__all__ = ["PATIENCE", "Places", "Program", "Room", "address_of"]

PATIENCE = 2000  # looks, a pause apart, at what others still work on before a thread gives up its core
SHARES = 1  # for each thread: the first takes its part at once, for a chunk's first bytes come slowly
COUNTERS = 128  # bytes of counters of a phase, see `simd/driver.py`
RUNS = itertools.count(1)


@dataclass
class Room:
    """Memory that the programs of a backend use, one after the other."""

    memory: np.ndarray = field(default_factory=lambda: np.zeros(64, np.uint8))
    lock: threading.RLock = field(default_factory=threading.RLock)

    def reserve(self, nbytes: int) -> None:
        """Have so many bytes, from an address on that is a multiple of 64."""
        if len(self.memory) < nbytes + 64:
            self.memory = np.empty(nbytes + 64, np.uint8)

    def holds(self, array: Array) -> bool:
        """Whether an array is a view of it."""
        planes = array.planes.values() if isinstance(array, Packed) else [array]
        return any(np.may_share_memory(p, self.memory) for p in planes)

    @property
    def start(self) -> int:
        """The byte that it begins at."""
        return -self.memory.ctypes.data % 64


@dataclass
class Places:
    """Where memories are in one run: the addresses, and arrays that hold them."""

    room: Room
    at: Mapping[Memory, int]  # in the room
    given: dict[Memory, np.ndarray] = field(default_factory=dict)

    @cached_property
    def base(self) -> int:
        """The address that the room begins at."""
        return int(self.room.memory.ctypes.data) + self.room.start

    def array(self, value: Value) -> Array:
        """The array of a tensor, a view of its memory."""
        if isinstance(value, PackedTensor):
            planes = {k: self.array(t) for k, t in value.planes.items()}
            return Packed(value.format, value.layout, value.shape, planes)
        if isinstance(value, RingRows):
            return rows_in_order(*(self.array(t) for t in tensors(value)))
        if value.memory.kind == "fixed" or not value.array.size:  # no call writes what has no elements
            return value.array
        if value.memory in self.at:
            start = self.room.start + self.at[value.memory]
            return np.ndarray(value.shape, value.dtype, self.room.memory, start + value.offset, value.strides)
        whole = self.given[value.memory]
        if whole.shape == value.shape and whole.strides == value.strides and whole.dtype == value.dtype:
            return whole
        return np.ndarray(value.shape, value.dtype, whole, value.offset, value.strides)

    def give(self, value: Value, array: Array) -> None:
        """Say what array a value is, which lies as the value says."""
        if isinstance(value, PackedTensor):
            for k, t in value.planes.items():
                self.give(t, array.planes[k])
        elif isinstance(value, Tensor) and value.memory.kind != "fixed":
            lies_so = array.strides == value.memory.array.strides or array.size <= 1
            self.given[value.memory] = array if lies_so else np.ascontiguousarray(array)

    def drop(self, memories: Iterable[Memory]) -> None:
        """Let go of what is not needed any more."""
        for m in memories:
            self.given.pop(m, None)

    def make(self, memory: Memory) -> None:
        """Memory for what a program returns."""
        self.given[memory] = np.empty(memory.array.shape, memory.array.dtype)


def address_of(code: Code, isa: InstructionSet) -> int:
    """Where a function is in this process. Raises CodeError."""
    return addresses(code.unit, isa)[code.function]


class Program:
    """Calls in phases, as words that compiled code reads. Addresses are put in before each run."""

    def __init__(self, calls: Sequence[Call], isa: InstructionSet, alone: bool = False) -> None:
        """With `alone`, each call is a phase of its own."""
        self.phases = [Phase(c) for c in calls] if alone else phases_of(calls)
        self.threads = team().threads
        self._shares = SHARES * self.threads if self.threads > 1 else 1
        self._scratch = max((c.scratch for c in calls), default=0)
        driver = addresses("driver", isa)
        self._begin, self._run = function_at(driver["begin"]), function_at(driver["run"])
        words: list[int] = []  # of the arguments
        pointers: list[tuple[int, Tensor]] = []  # which of them are addresses
        functions, starts, table = list[int](), list[int](), list[tuple[int, int, int]]()
        for phase in self.phases:
            table.append((phase.items, phase.grain, len(functions)))
            for call in phase.calls:
                functions.append(address_of(call.code[0], isa))
                starts.append(len(words))
                for a in call.arguments:
                    if isinstance(a, Tensor):
                        pointers.append((len(words), a))
                        words.append(0)
                    else:
                        words.append(address_of(a, isa) if isinstance(a, Code) else word_of(a))
        self._arguments = np.array(words, np.int64)
        base = self._arguments.ctypes.data
        self._calls = np.array([x for f, s in zip(functions, starts, strict=True) for x in (f, base + 8 * s)], np.int64)
        counts = [len(p.calls) for p in self.phases]
        rows = [(n, c, self._calls.ctypes.data + 16 * at, k) for (n, c, at), k in zip(table, counts, strict=True)]
        self._table = np.array(rows, np.int64).reshape(-1)
        self._counters = np.zeros(len(rows) * COUNTERS + 64, np.uint8)
        counters = self._counters.ctypes.data
        header = [len(rows), self._table.ctypes.data, counters + -counters % 64, 0, PATIENCE, self._shares, 0, 0]
        self._header = np.array(header, np.int64)
        self.memories = list(dict.fromkeys(t.memory for _, t in pointers))
        self._lying: tuple[np.ndarray, np.ndarray, list[tuple[int, Memory]]] | None = None
        numbers = {m: i for i, m in enumerate(self.memories)}
        self._where = np.array([i for i, _ in pointers], np.intp)
        self._which = np.array([numbers[t.memory] for _, t in pointers], np.intp)
        self._offsets = np.array([t.offset for _, t in pointers], np.int64)

    def __call__(self, places: Places) -> None:
        """Run it on every thread."""
        self._arguments[self._where] = self._bases(places)[self._which] + self._offsets
        number = next(RUNS) & 0x7FFFFFFF
        self._header[3] = number
        self._begin(self._header.ctypes.data, 0, 0, 0)
        team().run(self._run, self._header, number, self._scratch, self)

    def _bases(self, places: Places) -> np.ndarray:
        """The address of each memory. What is fixed or in the room is looked at in the first run alone, for speed."""
        if self._lying is None:
            starts = [m.start if m.kind == "fixed" else places.at.get(m, 0) for m in self.memories]
            inside = [m in places.at for m in self.memories]
            others = [(i, m) for i, m in enumerate(self.memories) if m.kind != "fixed" and m not in places.at]
            self._lying = np.array(starts, np.int64), np.array(inside, np.int64), others
        known, in_room, given = self._lying
        bases: np.ndarray = known + in_room * places.base
        for i, m in given:
            bases[i] = places.given[m].ctypes.data
        return bases
