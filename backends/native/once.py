"""One node run by its native kernel, alone: what is known before run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from burnish.backends.kernels.kernel import KERNELS, Kernel, NativeKernel, find_kernel
from burnish.backends.native.cpu import instruction_set
from burnish.backends.native.emit import Emitter
from burnish.backends.native.program import Places, Program, Room
from burnish.backends.native.shelf import empty
from burnish.backends.native.tensor import tensor_of, tensors
from burnish.backends.native.threads import team
from burnish.ir.graph import Node
from burnish.ir.op import Array

__all__ = ["run_static"]


def run_static(
    node: Node, operands: Sequence[Array | None], kernels: Mapping[str, Kernel] = KERNELS
) -> tuple[Array, ...] | None:
    """The results of a node that is known before run time, by a native kernel, if it makes NumPy's bytes.

    They lie in memory of their own that begins at multiples of 64 bytes.
    """
    inputs = [None if v is None else v.type for v in node.inputs]
    isa, kernel = instruction_set(), find_kernel(node.op, inputs, kernels).kernel
    if isa is None or not isinstance(kernel, NativeKernel) or not kernel.same_bytes:
        return None
    emitter, given = Emitter(isa, team().threads), [None if x is None else tensor_of(x, "fixed") for x in operands]
    results = kernel.emit(emitter, node.op, [o.type for o in node.outputs], *given)
    places = Places(Room(), {})
    used = [t for call in emitter.calls for t in call.tensors] + [t for r in results for t in tensors(r)]
    for memory in {t.memory for t in used if t.memory.kind == "made"}:
        places.given[memory] = empty(memory.array.shape, memory.array.dtype)
    if emitter.calls:
        Program(emitter.calls, isa)(places)
    return tuple(places.array(r) for r in results)
