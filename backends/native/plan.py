"""A plan whose consecutive native nodes run as programs, and the rest step by step as before."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from burnish.backends.kernels.cache import in_order
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.arena import lay_out, lives_of
from burnish.backends.native.code import Progress, prepare
from burnish.backends.native.cpu import InstructionSet
from burnish.backends.native.emit import Call, Emitter
from burnish.backends.native.program import Places, Program, Room
from burnish.backends.native.tensor import Memory, RingRows, tensor_of, tensors
from burnish.backends.native.tensor import Value as TensorValue
from burnish.backends.native.threads import team
from burnish.ir.format import Packed
from burnish.ir.graph import Value
from burnish.ir.op import Array, Op
from burnish.ir.run import Plan, Probe, Step, check_results
from burnish.ir.types import NUMPY, Type

__all__ = ["Emitted", "NativePlan"]


@dataclass(frozen=True)
class Emitted:
    """Stands for what runs a step that is a part of a program."""

    kernel: NativeKernel
    op: Op

    def __call__(self, operands: Sequence[Array | None]) -> tuple[Array, ...]:
        raise TypeError(f"{self.kernel.name} runs in a program only")


@dataclass(eq=False)
class Part:
    """Consecutive steps: one that NumPy runs, or native ones with the calls of each."""

    steps: list[Step]
    calls: list[list[Call]]
    isa: InstructionSet

    @property
    def is_native(self) -> bool:
        """Whether it is a program."""
        return isinstance(self.steps[0].run, Emitted)

    @cached_property
    def program(self) -> Program | None:
        """All of them at once."""
        calls = [c for each in self.calls for c in each]
        return Program(calls, self.isa) if calls else None

    @cached_property
    def programs(self) -> list[Program | None]:
        """Each of them alone."""
        return [Program(calls, self.isa, alone=True) if calls else None for calls in self.calls]


class NativePlan:
    """Runs a plan, its `Emitted` steps as programs; their results lie in memory that the next run uses again."""

    def __init__(self, plan: Plan, room: Room, isa: InstructionSet, progress: Progress | None = None) -> None:
        """`progress` is told of code that has to be built. Raises CodeError."""
        self.plan, self.room = plan, room
        self.values: dict[Value, TensorValue] = {}
        self.parts: list[Part] = []
        self._known = [v for v in plan.graph.inputs if v not in plan.static]
        for v, x in plan.static.items():
            self.values[v] = tensor_of(x, "fixed")
        for v in self._known:
            self.values[v] = _given(v.type.bind(plan.sizes))
        emitter = Emitter(isa, team().threads)
        bound = cache(lambda type: type.bind(plan.sizes))
        for step in plan.steps:
            types = [bound(o.type) for o in step.node.outputs]
            if isinstance(step.run, Emitted):
                emitter.calls = []
                operands: list[TensorValue | None] = [None if v is None else self.values[v] for v in step.inputs]
                if not step.run.kernel.takes_rings:
                    operands = [in_order(emitter, x) if isinstance(x, RingRows) else x for x in operands]
                results = step.run.kernel.emit(emitter, step.run.op, types, *operands)
                if not self.parts or not self.parts[-1].is_native:
                    self.parts.append(Part([], [], isa))
                self.parts[-1].steps.append(step)
                self.parts[-1].calls.append(emitter.calls)
            else:
                results = tuple(_given(t) for t in types)
                self.parts.append(Part([step], [], isa))
            self.values.update(zip(step.node.outputs, results, strict=True))
        calls = (c for part in self.parts for each in part.calls for c in each)
        prepare(["driver", *(code.unit for c in calls for code in c.code)], isa, progress)
        leaving = [t.memory for v in plan.graph.outputs.values() for t in tensors(self.values[v])]
        self._returned = list(dict.fromkeys(m for m in leaving if m.kind == "made"))
        for m in self._returned:
            m.kind = "returned"
        self._frees = self._last_uses()
        at, self.nbytes = lay_out(lives_of(self._phases()))
        self.at: Mapping[Memory, int] = at

    def _phases(self) -> list[list[Memory]]:
        """What each phase reads or writes, in order, and each step of NumPy's."""
        found: list[list[Memory]] = []
        for part in self.parts:
            if part.is_native:
                phases = part.program.phases if part.program is not None else []
                found += [[t.memory for c in p.calls for t in c.tensors] for p in phases]
            else:
                operands = [self.values[v] for v in part.steps[0].node.operands]
                found.append([t.memory for x in operands for t in tensors(x)])
        return found

    def _last_uses(self) -> list[list[Memory]]:
        """For each part, what NumPy made that nothing reads afterwards."""
        last: dict[Memory, int] = {}
        given = {v: [t.memory for t in tensors(x) if t.memory.kind == "given"] for v, x in self.values.items()}
        for i, part in enumerate(self.parts):
            for v in (v for step in part.steps for v in (*step.node.operands, *step.node.outputs)):
                last.update(dict.fromkeys(given[v], i))
        for v in (*self._known, *self.plan.graph.outputs.values()):
            for t in tensors(self.values[v]):
                last.pop(t.memory, None)
        frees: list[list[Memory]] = [[] for _ in self.parts]
        for memory, i in last.items():
            frees[i].append(memory)
        return frees

    def __call__(
        self,
        known: Mapping[Value, Array],
        probe: Probe | None = None,
        check: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> tuple[Array, ...]:
        """The outputs; see `Plan`. A probe, or `check`, sees node by node: each is a program of its own then."""
        with self.room.lock:
            self.room.reserve(self.nbytes)
            places = Places(self.room, self.at)
            for v in self._known:
                places.give(self.values[v], known[v])
            for m in self._returned:
                places.make(m)
            if probe is None and not check:
                for part, frees in zip(self.parts, self._frees, strict=True):
                    if not part.is_native:
                        self._step(part.steps[0], places)
                    elif part.program is not None:
                        part.program(places)
                    places.drop(frees)
            else:
                self._one_by_one(places, probe, check, clock)
            return tuple(self._result(v, places) for v in self.plan.graph.outputs.values())

    def _result(self, v: Value, places: Places) -> Array:
        return places.array(self.values[v])

    def _step(self, step: Step, places: Places) -> None:
        operands = [None if v is None else places.array(self.values[v]) for v in step.inputs]
        results = step.run(operands)
        check_results(step.node, results, self.plan.sizes)  # compiled code reads what is declared, whatever is there
        for o, x in zip(step.node.outputs, results, strict=True):
            places.give(self.values[o], self._kept(x))

    def _kept(self, x: Array) -> Array:
        """An array that stays as it is when the program's memory is used again."""
        return _copy(x) if self.room.holds(x) else x

    def _one_by_one(self, places: Places, probe: Probe | None, check: bool, clock: Callable[[], float]) -> None:
        steps = [(part, i, step) for part in self.parts for i, step in enumerate(part.steps)]
        frees = {id(part.steps[-1]): frees for part, frees in zip(self.parts, self._frees, strict=True)}
        # Operands are taken before a node runs: its last phase may write where its first has read.
        operands = self._shown(steps[0][2].inputs, places) if steps else []
        began = at = clock()
        own = 0.0
        for n, (part, i, step) in enumerate(steps, 1):
            if not part.is_native:
                self._step(step, places)
            elif (program := part.programs[i]) is not None:
                program(places)
            done = clock()
            results = self._shown(step.node.outputs, places)
            if check:
                check_results(step.node, results, self.plan.sizes)
            if probe is not None:
                probe.node(step.node, operands, results, done - at)
            places.drop(frees.get(id(step), ()))
            operands = self._shown(steps[n][2].inputs, places) if n < len(steps) else []
            at = clock()
            own += at - done
        if probe is not None:
            probe.finished(at - began, own)

    def _shown(self, values: Sequence[Value | None], places: Places) -> list[Array]:
        """Arrays of values, which stay as they are."""
        return [None if v is None else self._kept(places.array(self.values[v])) for v in values]


def _given(type: Type) -> TensorValue:
    """What a run is given: rows without gaps."""
    if type.format is None:
        return tensor_of(np.empty(type.sizes, NUMPY[type.dtype]), "given")
    plane = np.empty((*type.sizes[:-1], type.format.row_bytes(type.sizes[-1])), np.uint8)
    return tensor_of(Packed(type.dtype, "", type.sizes, {"bytes": plane}), "given")


def _copy(x: Array) -> Array:
    if isinstance(x, Packed):
        return x.with_planes({k: p.copy() for k, p in x.planes.items()}, x.shape)
    return x.copy()
