"""On a CPU, products and attention by the compiled kernels of the NumPy backend: XLA calls their functions itself.

Each call that a kernel takes down is a custom call (XLA's foreign function interface) of the function's name and the
digest of its code, so that XLA may keep what it compiled. `simd.foreign` is the handler.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from burnish.backends.kernels import KERNELS
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.code import CodeError, bind, file_name
from burnish.backends.native.cpu import InstructionSet, instruction_set, why_none
from burnish.backends.native.emit import Call, Code, Emitter, word_of
from burnish.backends.native.program import PATIENCE, address_of
from burnish.backends.native.tensor import Memory, PackedTensor, Tensor, tensor_of, tensors
from burnish.backends.native.threads import cores
from burnish.backends.xla_kernels import attention, linear  # noqa: F401  # defined before these, which are asked first
from burnish.backends.xla_kernels.kernel import Slot, XlaKernel, not_on_a_cpu
from burnish.ir.format import Packed
from burnish.ir.op import Array
from burnish.ir.types import Type, dtype_name

__all__ = ["ForeignKernel"]

WORK, LINE = 256, 64  # bytes; see `simd.foreign`


class ForeignKernel(XlaKernel):
    """Runs what the NumPy backend's kernel `name` runs, by it. Operands in a stack are read where they lie."""

    anywhere = False

    @property
    def native(self) -> NativeKernel:
        """The kernel."""
        kernel = KERNELS[self.name]
        assert isinstance(kernel, NativeKernel)
        return kernel

    def why_not(self, op: Any, *operands: Type | None) -> str | None:
        """Needs a CPU that there are kernels for, and what the kernel needs."""
        return not_on_a_cpu() or why_none() or self.native.why_not(op, *operands)

    def how(self, op: Any, *operands: Any) -> str:
        """The same as the NumPy backend says, and that it is called."""
        return f"{self.native.how(op, *operands)}, called by XLA"

    def __call__(self, op: Any, dtypes: Sequence[str], *operands: Any) -> tuple[Array, ...]:
        """The custom calls of its calls."""
        isa = instruction_set()
        assert isa is not None
        emitter, lying = Emitter(isa, cores()), dict[Memory, _Lying]()
        given = [None if x is None else _shown(x, lying) for x in operands]
        types = op.results(*(None if x is None else _type(x) for x in operands))
        results = self.native.emit(emitter, op, types, *given)
        for call in emitter.calls:
            _custom_call(call, isa, lying)
        return tuple(_array(r, lying) for r in results)


class LinearInt8(ForeignKernel):
    """Quantized weights and int8 activations."""

    name = "linear.int8"
    op = "linear"
    in_stack = ("w",)


class ExpertLinearInt8(ForeignKernel):
    """The same with the experts that are chosen."""

    name = "expert_linear.int8"
    op = "expert_linear"
    in_stack = ("w",)


class QuantizeInt8(ForeignKernel):
    """The activations that these read."""

    name = "quantize.int8_32"
    op = "quantize"


class FloatLinear(ForeignKernel):
    """Weights as they are stored, and f32 activations."""

    name = "linear.floats"
    op = "linear"
    in_stack = ("w",)


class Attention(ForeignKernel):
    """Attention without a matrix of scores."""

    name = "attention.tiles"
    op = "attention"
    in_stack = ("k", "v")


@dataclass(frozen=True)
class _Lying:
    """The array that a memory is, or a stack of such, of which it is block `index`."""

    array: Array
    index: Array | None = None


def _type(x: Array) -> Type:
    """The type of an operand: in a stack, of its block."""
    stack = x.stack if isinstance(x, Slot) else x
    if isinstance(stack, Packed):
        return Type(stack.format, x.shape, stack.layout)
    return Type(dtype_name(stack.dtype), x.shape)


def _shown(x: Array, lying: dict[Memory, _Lying]) -> Tensor | PackedTensor:
    """A tensor for an operand, of whose memory `lying` says what it is."""
    stack, index = (x.stack, x.index) if isinstance(x, Slot) else (x, None)
    lead = 0 if index is None else 1
    planes = stack.planes if isinstance(stack, Packed) else {"": stack}
    empty = {k: np.empty(p.shape[lead:], p.dtype) for k, p in planes.items()}
    packed = Packed(stack.format, stack.layout, x.shape, empty) if isinstance(stack, Packed) else empty[""]
    shown = tensor_of(packed, "given")
    assert isinstance(shown, Tensor | PackedTensor)
    lying |= {t.memory: _Lying(p, index) for t, p in zip(tensors(shown), planes.values(), strict=True)}
    return shown


def _array(x: Any, lying: Mapping[Memory, _Lying]) -> Array:
    """The result that a tensor stands for."""
    if isinstance(x, PackedTensor):
        return Packed(x.format, x.layout, x.shape, {k: _array(t, lying) for k, t in x.planes.items()})
    assert x.is_contiguous and x.array.size == x.memory.array.size
    return lying[x.memory].array.reshape(x.shape) if x.memory in lying else jnp.zeros(x.shape, x.dtype)


def _custom_call(call: Call, isa: InstructionSet, lying: dict[Memory, _Lying]) -> None:
    """Have XLA call a function; `lying` says then what its results are."""
    writes = sorted(call.writes, key=[t.memory for t in call.tensors].index)
    reads = [m for m in dict.fromkeys(t.memory for t in call.tensors) if m not in call.writes]
    assert not any(m in lying for m in writes), "a memory is written by one call"
    operands: list[Array] = []
    buffers: dict[Memory, tuple[int, int, int]] = {}  # which holds it, which the number of a block, bytes of a block
    for memory in reads:
        lies = lying.get(memory) or _Lying(jnp.asarray(memory.array))
        buffers[memory] = len(operands), -1 if lies.index is None else len(operands) + 1, memory.array.nbytes
        operands += [lies.array] if lies.index is None else [lies.array, lies.index.astype("int32")]
    buffers |= {memory: (len(operands) + i, -1, 0) for i, memory in enumerate(writes)}
    words, places, functions = list[int](), list[int](), 0
    for a in call.arguments:
        if isinstance(a, Tensor):
            buffer, index, step = buffers[a.memory]
            places += [len(words), buffer, a.offset, index, step]
        elif isinstance(a, Code):
            functions += 1
            places += [len(words), -functions, 0, -1, 0]
        words.append(0 if isinstance(a, Tensor | Code) else word_of(a))
    threads = cores()
    head = [call.items, call.grain, call.scratch, threads, threads, PATIENCE, len(words), len(places) // 5]
    work = WORK + _up(8 * len(words)) + threads * _up(call.scratch)
    struct: Any = jax.ShapeDtypeStruct  # JAX gives its constructor no types
    types = [*(struct(m.array.shape, m.array.dtype) for m in writes), struct((work,), np.uint8)]
    custom: Any = jax.ffi.ffi_call(_target(call, isa), types)
    results = custom(*operands, program=np.array([*head, *words, *places], np.int64))
    lying |= {memory: _Lying(x) for memory, x in zip(writes, results, strict=False)}


def _target(call: Call, isa: InstructionSet) -> str:
    """The name that XLA knows the function by, from now on. Raises CodeError."""
    digests = [file_name(code.unit, isa).rpartition("-")[2].removesuffix(".bin") for code in call.code]
    name = ".".join(["burnish", call.unit, call.function, *digests])
    with _lock:
        _register(name, tuple(call.code), isa)
    return name


@functools.cache
def _register(name: str, code: Sequence[Code], isa: InstructionSet) -> None:
    handler = bind("foreign", isa, [address_of(c, isa) for c in code])["handle"]
    capsule: Any = jax.ffi.pycapsule  # without types
    try:
        jax.ffi.register_ffi_target(name, capsule(ctypes.c_void_p(handler)), platform="cpu")
    except Exception as e:  # of a version of its interface that it does not take, say
        what = f"JAX {jax.__version__} does not take compiled kernels: {str(e).splitlines()[0]}"
        raise CodeError(f"{what}; BURNISH_CPU=none does without them") from None


_lock = threading.Lock()


def _up(size: int) -> int:
    return -(-size // LINE) * LINE
