"""Native kernels run by hand, every array between pages that nobody may touch: what strays outside of one crashes.

Page protection finds only what lies beyond the end that touches a page: run each case with both ends.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import random
from typing import Any

import numpy as np

from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.code import addresses
from burnish.backends.native.cpu import InstructionSet, instruction_sets
from burnish.backends.native.emit import Argument, Call, Code, Emitter, word_of
from burnish.backends.native.program import address_of
from burnish.backends.native.tensor import Memory, PackedTensor, RingRows, Tensor, Value, rows_in_order, tensors
from burnish.backends.native.threads import function_at
from burnish.ir.format import Packed
from burnish.ir.op import Array, Op
from burnish.ir.types import Type, dtype_name

__all__ = ["BOTH", "ENDS", "LAYOUTS", "call_kernel", "guarded", "lying"]

BOTH = instruction_sets()  # those of this machine
ENDS = (True, False)
LAYOUTS = ("rows", "part", "middle", "reversed axes", "broadcast")
PROT_NONE = 0
GARBAGE = 0xA5  # what memory holds before it is written


def guarded(array: np.ndarray, at_end: bool = True) -> np.ndarray:
    """A copy with the same strides that ends where a protected page begins, or begins where one ends."""
    low, high = np.lib.array_utils.byte_bounds(array) if array.size else (0, 0)
    whole = _bytes(high - low, at_end)
    made: np.ndarray = np.ndarray(
        array.shape, array.dtype, whole, array.ctypes.data - low if array.size else 0, array.strides
    )
    made[...] = array
    return made


def lying(x: np.ndarray, layout: str) -> np.ndarray:
    """The same numbers in one of LAYOUTS: gaps behind rows, or blocks; axes in another order. Under "broadcast" the
    first row stands for all, in no bytes between them.
    """
    if layout == "broadcast" and x.ndim:
        return np.broadcast_to(x[:1], x.shape)
    if layout == "reversed axes":
        return np.ascontiguousarray(x.T).T
    if layout in ("part", "middle") and x.ndim:
        axis = -1 if layout == "part" else -min(2, x.ndim)
        return np.split(np.concatenate([x, x, x], axis), 3, axis)[1]
    return np.ascontiguousarray(x)


def call_kernel(
    kernel: NativeKernel,
    op: Op,
    *operands: Array | None,
    isa: InstructionSet | None = None,
    at_end: bool = True,
    threads: int = 2,
    seed: int = 0,
) -> tuple[Array, ...]:
    """What a kernel gives for one node, its sizes bound: every operand, which keeps its strides, and whatever else the
    kernel writes is guarded. Each call's items are done in pieces, by chance, in an order by chance.
    """
    types = [None if x is None else type_of(x) for x in operands]
    assert (why := kernel.why_not(op, *types)) is None, why
    emitter = Emitter(isa or BOTH[0], threads)
    given = [None if x is None else _operand(x, at_end) for x in operands]
    results = kernel.emit(emitter, op, op.results(*types), *given)
    held: dict[Memory, np.ndarray] = {}
    for t in (t for c in emitter.calls for t in c.tensors):
        if t.memory.kind == "made" and t.memory not in held:
            held[t.memory] = _bytes(t.memory.array.nbytes, at_end)
    scratch = _bytes(-(-emitter.scratch // 64) * 64, at_end)
    for i, call in enumerate(emitter.calls):
        _run(call, emitter.isa, held, scratch.ctypes.data, random.Random(f"{seed} {i}"))
    return tuple(_array(r, held) for r in results)


def type_of(x: Array) -> Type:
    """The type of an array."""
    return Type(x.format, x.shape, x.layout) if isinstance(x, Packed) else Type(dtype_name(x.dtype), x.shape)


def _run(call: Call, isa: InstructionSet, held: dict[Memory, np.ndarray], scratch: int, chance: random.Random) -> None:
    words = [_word(a, isa, held) for a in call.arguments]
    arguments = guarded(np.array(words, np.int64))
    cuts = sorted({0, call.items, *(chance.randint(0, call.items) for _ in range(chance.randint(0, 4)))})
    pieces = list(itertools.pairwise(cuts))
    chance.shuffle(pieces)
    function = function_at(addresses(call.unit, isa)[call.function])
    for begin, end in pieces:
        function(arguments.ctypes.data, begin, end, scratch)


def _word(a: Argument, isa: InstructionSet, held: dict[Memory, np.ndarray]) -> int:
    if isinstance(a, Code):
        return address_of(a, isa)
    return _address(a, held) if isinstance(a, Tensor) else word_of(a)


def _operand(x: Array, at_end: bool) -> Value:
    if isinstance(x, Packed):
        planes = {k: _operand(p, at_end) for k, p in x.planes.items()}
        return PackedTensor(x.format, x.layout, x.shape, planes)  # type: ignore[arg-type]  # planes are tensors
    made = guarded(x, at_end)
    return Tensor(Memory(made, "given"), made)


def _address(t: Tensor, held: dict[Memory, np.ndarray]) -> int:
    return (held[t.memory].ctypes.data if t.memory in held else t.memory.start) + t.offset


def _array(value: Value, held: dict[Memory, np.ndarray]) -> Array:
    if isinstance(value, PackedTensor):
        planes = {k: _array(t, held) for k, t in value.planes.items()}
        return Packed(value.format, value.layout, value.shape, planes)
    if isinstance(value, RingRows):
        return rows_in_order(*(_array(t, held) for t in tensors(value)))
    if value.memory in held:
        return np.ndarray(value.shape, value.dtype, held[value.memory], value.offset, value.strides)
    return value.array  # an operand's own, or of no elements


def _bytes(size: int, at_end: bool) -> np.ndarray:
    """So many bytes beside protected pages, that before them and that behind."""
    page = mmap.PAGESIZE
    room = -(-size // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    libc = ctypes.CDLL(None, use_errno=True)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    whole: Any = np.frombuffer(memory, np.uint8)
    whole[page : page + room] = GARBAGE
    for guard in (start, start + page + room):
        if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), PROT_NONE):
            raise OSError(ctypes.get_errno(), "a page cannot be protected")
    first = page + room - size if at_end else page
    return whole[first : first + size]  # type: ignore[no-any-return]
