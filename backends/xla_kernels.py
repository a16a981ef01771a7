"""The exceptions: what XLA does better when it is told how. Everything else is traced through `evaluate`.

XLA unpacks a whole matrix, and copies a block's weights or cache out of their stack, before it multiplies. These
kernels read both in parts, inside a loop, so that no temporary holds either; they mean what `evaluate` means, to the
rounding of sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from burnish.backends.kernels.kernel import Kernel
from burnish.backends.xla_experts import expert_linear
from burnish.ir.format import LAYOUTS, Packed
from burnish.ir.op import Array, Op
from burnish.ir.ops.attention import Attention, RingUpdate
from burnish.ir.ops.control import Repeat
from burnish.ir.registry import Registry
from burnish.ir.types import NUMPY, Type

__all__ = ["KEYS", "XLA_KERNELS", "InStack", "RepeatAsLoop", "Slot", "XlaKernel", "part_of", "whole"]

BLOCK = 1 << 17  # weights unpacked at once: 512 KiB in f32, which stay in a core's cache
KEYS = 64  # keys read at once

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


@dataclass(frozen=True, slots=True)
class InStack(Type):
    """The type of an operand that lies in a stack, of which a loop over blocks is at one block."""

    @classmethod
    def of(cls, type: Type) -> InStack:
        """The block's type."""
        return cls(*(getattr(type, f.name) for f in fields(type)))


def _flatten(x: Packed) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
    return tuple(x.planes.values()), (x.format, x.layout, x.shape, tuple(x.planes))


def _unflatten(about: tuple[Any, ...], planes: Sequence[Array]) -> Packed:
    format, layout, shape, names = about
    return Packed(format, layout, shape, dict(zip(names, planes, strict=True)))


jax.tree_util.register_pytree_node(Packed, _flatten, _unflatten)


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


# --------------------------------------------------------------------------------------------------------- slots


def whole(x: Array | None) -> Array | None:
    """An operand as an array, or packed, copied out of its stack where it lies in one."""
    if not isinstance(x, Slot):
        return x
    if isinstance(x.stack, Packed):
        return x.stack.with_planes({k: _at(p, x.index) for k, p in x.stack.planes.items()}, x.shape)
    return _at(x.stack, x.index)


def _at(stack: Array, index: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(stack, index, keepdims=False)


def part_of(x: Array, at: Array, size: int, axis: int) -> Array:
    """x[at : at + size] along `axis`, of an array, a packed one or a slot."""
    stack = x.stack if isinstance(x, Slot) else x
    if isinstance(stack, Packed):
        planes = {k: replace(x, stack=p) if isinstance(x, Slot) else p for k, p in stack.planes.items()}
        planes = {k: part_of(p, at, size, axis) for k, p in planes.items()}
        shape = list(x.shape)
        shape[axis] = size
        return stack.with_planes(planes, tuple(shape))
    if not isinstance(x, Slot):
        return jax.lax.dynamic_slice_in_dim(x, at, size, axis)
    zero = jnp.int32(0)
    start = [x.index, *(at if i == axis else zero for i in range(len(x.shape)))]
    sizes = [1, *(size if i == axis else n for i, n in enumerate(x.shape))]
    return jax.lax.dynamic_slice(stack, start, sizes)[0]


def _for(count: int | Array, step: Callable[[Array, Array], Array], start: Array) -> Array:
    """step(i, …step(0, start))."""
    return jax.lax.fori_loop(jnp.int32(0), jnp.int32(count), step, start)


# ------------------------------------------------------------------------------------------------------- kernels


class LinearByRows(XlaKernel):
    """The product with a block of rows at a time, each widened or unpacked just before."""

    name = "linear.rows"
    op = "linear"
    in_stack = ("w",)

    def why_not(self, op: Op, x: Type, w: Type, b: Type | None = None) -> str | None:
        """Needs weights that XLA would copy first, and whose rows can be read."""
        if w.format is not None and not LAYOUTS[w.layout].by_rows:
            return f"rows cannot be read from its layout {w.layout}"
        return None if isinstance(w, InStack) or _is_narrow(w.dtype) else f"XLA reads {w.dtype} where it lies"

    def how(self, op: Op, x: Type, w: Type, b: Type | None = None) -> str:
        """In how many bits weights and inputs are multiplied, and what is dequantized."""
        bits = f", {w.dtype} dequantized a block of rows at a time, W{_bits(w)}A{_bits(x)}" if w.format else ""
        return f"kernel {self.name}{bits}"

    def __call__(self, op: Op, dtypes: Sequence[str], x: Array, w: Array, b: Array | None = None) -> tuple[Array, ...]:
        x, b = _floats(x), _floats(b)
        outputs, inputs = w.shape
        rows = max(1, min(outputs, BLOCK // max(inputs, 1)))

        def block(j: Array, y: Array) -> Array:
            at = jnp.minimum(j * rows, outputs - rows)  # the last block may overlap the one before
            part = jnp.matmul(x, _floats(part_of(w, at, rows, axis=0)).T)
            return jax.lax.dynamic_update_slice_in_dim(y, part.astype(y.dtype), at, axis=-1)

        y = _for(-(-outputs // rows), block, jnp.zeros((*x.shape[:-1], outputs), x.dtype))
        y = y if b is None else y + b
        return (y.astype(NUMPY[dtypes[0]]),)


class ExpertLinearByRows(XlaKernel):
    """The same of the matrix of one expert after the other."""

    name = "expert_linear.rows"
    op = "expert_linear"
    in_stack = ("w",)

    def why_not(self, op: Op, x: Type, w: Type, chosen: Type) -> str | None:
        """Takes all that the op takes: layouts of which rows cannot be read are none of its."""
        return None

    def how(self, op: Op, x: Type, w: Type, chosen: Type) -> str:
        """In how many bits weights and inputs are multiplied, and what is dequantized."""
        bits = f", {w.dtype} dequantized a block of rows at a time, W{_bits(w)}A{_bits(x)}" if w.format else ""
        return f"kernel {self.name}{bits}"

    def __call__(self, op: Op, dtypes: Sequence[str], x: Array, w: Array, chosen: Array) -> tuple[Array, ...]:
        return (expert_linear(x, w, chosen).astype(NUMPY[dtypes[0]]),)


class AttentionByKeys(XlaKernel):
    """`Attention.eval` with both products over a few keys at a time, and only over those that can be visible."""

    name = "attention.keys"
    op = "attention"
    in_stack = ("k", "v")

    def why_not(
        self,
        op: Attention,
        q: Type,
        k: Type,
        v: Type,
        past: Type | None = None,
        count: Type | None = None,
        bias: Type | None = None,
        k_before: Type | None = None,
        v_before: Type | None = None,
    ) -> str | None:
        """Needs keys in one piece, of which it is said how many there are, or that XLA would copy first."""
        if k_before is not None:
            return "keys of a ring come in two pieces"
        return None if past is not None or isinstance(k, InStack) else "all keys are there, and can be visible"

    def __call__(
        self,
        op: Attention,
        dtypes: Sequence[str],
        q: Array,
        k: Array,
        v: Array,
        past: Array | None = None,
        count: Array | None = None,
        bias: Array | None = None,
        k_before: None = None,
        v_before: None = None,
    ) -> tuple[Array, ...]:
        q, (b, s, h, d), (t, groups) = _floats(q), q.shape, k.shape[1:3]
        keys = min(KEYS, t)
        reach = t if past is None or not op.causal else jnp.minimum(jnp.max(past) + s, t)
        parts = -(-reach // keys)
        heads = q.reshape(b, s, groups, h // groups, d).transpose(0, 2, 3, 1, 4).reshape(b, groups, -1, d)

        def score(j: Array, scores: Array) -> Array:
            at = jnp.minimum(j * keys, t - keys)
            part = jnp.matmul(heads, _floats(part_of(k, at, keys, axis=1)).transpose(0, 2, 3, 1))
            return jax.lax.dynamic_update_slice_in_dim(scores, part, at, axis=-1)

        scores = _for(parts, score, jnp.zeros((*heads.shape[:3], t), q.dtype)).reshape(b, h, s, t)
        p = op.weights(jnp, scores, past, count, _floats(bias)).reshape(b, groups, -1, t)

        def mix(j: Array, y: Array) -> Array:
            at = jnp.minimum(j * keys, t - keys)
            fresh = at + jnp.arange(keys, dtype="int32") >= j * keys  # the last part may overlap the one before
            part = jnp.where(fresh, jax.lax.dynamic_slice_in_dim(p, at, keys, axis=-1), 0)
            return y + jnp.matmul(part, _floats(part_of(v, at, keys, axis=1)).transpose(0, 2, 1, 3))

        y = _for(parts, mix, jnp.zeros((*heads.shape[:3], v.shape[3]), q.dtype))
        y = y.reshape(b, groups, h // groups, s, v.shape[3]).transpose(0, 3, 1, 2, 4).reshape(b, s, h, v.shape[3])
        return (y.astype(NUMPY[dtypes[0]]),)


class CacheUpdateInStack(XlaKernel):
    """The new rows written into the stack of caches, of which nothing else is touched."""

    name = "cache_update.stack"
    op = "cache_update"
    in_stack = ("cache",)

    def why_not(self, op: Op, cache: Type, new: Type, past: Type) -> str | None:
        """Needs a stack: a cache of its own XLA writes into by itself."""
        return None if isinstance(cache, InStack) else "the cache lies in no stack"

    def __call__(self, op: Op, dtypes: Sequence[str], cache: Slot, new: Array, past: Array) -> tuple[Array, ...]:
        rows = past[:, None] + jnp.arange(new.shape[1], dtype="int32")
        batch = jnp.arange(new.shape[0], dtype="int32")[:, None]
        stack = cache.stack.at[cache.index, batch, rows].set(new, mode="drop", unique_indices=True)
        return (replace(cache, stack=stack),)


class RingUpdateInStack(XlaKernel):
    """The same for a ring, and what it held before."""

    name = "ring_update.stack"
    op = "ring_update"
    in_stack = ("ring",)

    def why_not(self, op: RingUpdate, ring: Type, new: Type, past: Type, count: Type) -> str | None:
        """Needs a stack, and rows."""
        if not isinstance(ring, InStack):
            return "the ring lies in no stack"
        return "it has no rows" if ring.shape[1] == 0 else None

    def __call__(
        self, op: RingUpdate, dtypes: Sequence[str], ring: Slot, new: Array, past: Array, count: Array
    ) -> tuple[Array, ...]:
        rows, before = op.rows(jnp, ring, new, past, count), op.before(jnp, whole(ring), past)
        batch = jnp.arange(new.shape[0], dtype="int32")[:, None]
        stack = ring.stack.at[ring.index, batch, rows].set(new, mode="drop", unique_indices=True)
        return replace(ring, stack=stack), before


class RepeatAsLoop(XlaKernel):
    """One `lax.scan`, its body given slots; the stacks of states are carried, so that XLA writes into them."""

    name = "repeat.loop"
    op = "repeat"
    in_stack = ("operands",)  # what is shared is handed on as it lies

    def why_not(self, op: Repeat, *operands: Type) -> str | None:
        """It takes all of them."""
        return None

    def how(self, op: Repeat, *operands: Type) -> str:
        """That states are not copied."""
        return f"kernel {self.name}, its states written in place"

    def __call__(
        self, op: Repeat, dtypes: Sequence[str], *operands: Array, bodies: Sequence[Callable[..., Any]]
    ) -> tuple[Array, ...]:
        carried, shared, stacked = op.apart(operands)
        stacks = [whole(x) for x in stacked]

        def step(state: tuple[list[Array], list[Array]], i: Array) -> tuple[Any, Any]:
            carries, states = state
            slots = [Slot(x, i, n) for n, x in enumerate(states)] + [Slot(x, i) for x in stacks[op.states :]]
            results = bodies[0](*carries, *shared, *slots)
            new = [_written(states[n], i, n, r) for n, r in enumerate(results[op.carries : op.carries + op.states])]
            further = [whole(r) for r in results[op.carries + op.states :]]
            return ([whole(r) for r in results[: op.carries]], new), further

        start = [whole(x) for x in carried], stacks[: op.states]
        (carries, states), further = jax.lax.scan(step, start, jnp.arange(op.count, dtype="int32"))
        return (*carries, *states, *further)


def _written(stack: Array, index: Array, state: int, new: Array) -> Array:
    """The stack after a run that returned `new` for its block."""
    if isinstance(new, Slot) and new.state == state:
        return new.stack
    return jax.lax.dynamic_update_index_in_dim(stack, whole(new), index, axis=0)


def _is_narrow(dtype: Any) -> bool:
    """Whether elements are widened or unpacked before they are multiplied; the type's name or JAX's dtype."""
    plain = NUMPY.get(dtype) if isinstance(dtype, str) else dtype
    return plain is None or np.dtype(plain).itemsize < 4


def _bits(t: Type) -> int:
    """Bits an element, without its scale."""
    return t.format.code.width if t.format is not None else NUMPY[t.dtype].itemsize * 8


def _floats(x: Array) -> Array:
    """What a product computes in: f32, or f64 as it is. None and truth values stay."""
    if x is None or x.dtype == bool:
        return x
    if isinstance(x, Packed):
        return x.dequantize(jnp)
    return x.astype("float32") if _is_narrow(x.dtype) else x
