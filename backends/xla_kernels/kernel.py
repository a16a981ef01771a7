"""What a kernel for XLA is, and the parts in which it reads its operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from burnish.backends.kernels.kernel import Kernel
from burnish.ir.format import Packed
from burnish.ir.op import Array
from burnish.ir.registry import Registry
from burnish.ir.types import Type

__all__ = ["XLA_KERNELS", "InStack", "Slot", "XlaKernel", "floats", "part_of", "repeated", "whole"]

XLA_KERNELS: Registry[XlaKernel] = Registry("XLA kernel")


class XlaKernel(Kernel):
    """Over JAX's arrays, and packed ones, inside a function that is being traced.

    Within a loop over blocks, an operand may be a block of a stack. Those named in `in_stack` are then of a type
    `InStack` and given as a `Slot`, the others as arrays. Of an op that writes in place, the first result is then the
    operand's `Slot`, with what was written in its stack.
    """

    table = XLA_KERNELS
    #: the operands that it reads, or writes, in their stack
    in_stack: ClassVar[tuple[str, ...]] = ()
    #: whether what it traces runs on another machine too
    anywhere: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class InStack(Type):
    """The type of an operand that lies in a stack, of which a loop over blocks is at one block."""

    @classmethod
    def of(cls, type: Type) -> InStack:
        """The block's type."""
        return cls(*(getattr(type, f.name) for f in fields(type)))


@dataclass(frozen=True)
class Slot:
    """Block `index` of a stack, inside a loop over blocks: kernels read parts of it, and write into it, in the stack.

    `state` is its number among the states of the loop, None for what is only read.
    """

    stack: Array
    index: Array
    state: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The block's."""
        return tuple(self.stack.shape[1:])

    @property
    def dtype(self) -> Any:
        """The element type, or the format's name."""
        return self.stack.dtype


def _flatten(x: Packed) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
    return tuple(x.planes.values()), (x.format, x.layout, x.shape, tuple(x.planes))


def _unflatten(about: tuple[Any, ...], planes: Sequence[Array]) -> Packed:
    format, layout, shape, names = about
    return Packed(format, layout, shape, dict(zip(names, planes, strict=True)))


jax.tree_util.register_pytree_node(Packed, _flatten, _unflatten)


def whole(x: Array | None) -> Array | None:
    """An operand as an array, or packed, copied out of its stack where it lies in one."""
    return part_of(x, {}) if isinstance(x, Slot) else x


def part_of(x: Array, parts: Mapping[int, tuple[Array, int]]) -> Array:
    """x[at : at + size] along each axis of `parts`, which gives (at, size): of an array, a packed one or a slot."""
    stack, lead = (x.stack, (x.index,)) if isinstance(x, Slot) else (x, ())
    zero = jnp.int32(0)

    def cut(plane: Array) -> Array:
        shape = plane.shape[len(lead) :]
        start = [parts[i][0] if i in parts else zero for i in range(len(shape))]
        sizes = [parts[i][1] if i in parts else n for i, n in enumerate(shape)]
        return jax.lax.dynamic_slice(plane, (*lead, *start), (*(1 for _ in lead), *sizes)).reshape(sizes)

    if not isinstance(stack, Packed):
        return cut(stack)
    sizes = tuple(parts[i][1] if i in parts else n for i, n in enumerate(x.shape))
    return stack.with_planes({name: cut(plane) for name, plane in stack.planes.items()}, sizes)


def repeated(count: int | Array, step: Callable[[Array, Array], Array], start: Array) -> Array:
    """step(count - 1, … step(0, start))."""
    return jax.lax.fori_loop(jnp.int32(0), jnp.int32(count), step, start)


def floats(x: Array) -> Array:
    """What a product computes in: f32, or f64 as it is. None and truth values stay."""
    if x is None or x.dtype == bool:
        return x
    if isinstance(x, Packed):
        return x.dequantize(jnp)
    return x.astype("float32") if x.dtype.itemsize < 4 else x
