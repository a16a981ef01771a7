"""One node run by its native kernel, alone: what is known before run time."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.backends.kernels.cpu import InstructionSet
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.emit import Emitter
from burnish.backends.native.program import Places, Program, Room
from burnish.backends.native.shelf import empty
from burnish.backends.native.tensor import tensor_of, tensors
from burnish.backends.native.threads import team
from burnish.ir.op import Array, Op
from burnish.ir.types import Type

__all__ = ["run_once"]


def run_once(
    kernel: NativeKernel, op: Op, types: Sequence[Type], operands: Sequence[Array | None], isa: InstructionSet
) -> tuple[Array, ...]:
    """The results, of `types`, in memory of their own that begins at multiples of 64 bytes."""
    emitter = Emitter(isa, team().threads)
    results = kernel.emit(emitter, op, types, *[None if x is None else tensor_of(x, "fixed") for x in operands])
    places = Places(Room(), {})
    used = [t for call in emitter.calls for t in call.tensors] + [t for r in results for t in tensors(r)]
    for memory in {t.memory for t in used if t.memory.kind == "made"}:
        places.given[memory] = empty(memory.array.shape, memory.array.dtype)
    if emitter.calls:
        Program(emitter.calls, isa)(places)
    return tuple(places.array(r) for r in results)
