"""The exceptions: what XLA does better when it is told how. Everything else is traced through `evaluate`.

XLA unpacks a whole matrix, and copies a block's weights or cache out of their stack, before it multiplies. These
kernels read both in parts, inside a loop, so that no temporary holds either; they mean what `evaluate` means, to the
rounding of sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from burnish.ir.evaluate import evaluate
from burnish.ir.format import LAYOUTS, Packed
from burnish.ir.op import Array, Op
from burnish.ir.ops.attention import Attention, RingUpdate
from burnish.ir.ops.control import Repeat
from burnish.ir.types import NUMPY, Type

__all__ = ["evaluate_xla", "how"]

BLOCK = 1 << 17  # weights unpacked at once: 512 KiB in f32, which stay in a core's cache
KEYS = 64  # keys read at once
UNPACKED = "unpacked whole"  # what the plan says of weights that are not read in blocks

Operands = Sequence[Array | None]
Bodies = Sequence[Callable[..., tuple[Array, ...]]]


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


def evaluate_xla(op: Op, operands: Operands, dtypes: Sequence[str], bodies: Bodies) -> tuple[Array, ...]:
    """One op on JAX's arrays, packed ones and slots, by the kernel that the table has for it or by `evaluate`."""
    kernel = _KERNELS.get(op.name)
    results = kernel(op, dtypes, bodies, *operands) if kernel is not None else None
    if results is None:
        results = evaluate(op, jnp, [_whole(x) for x in operands], dtypes, bodies)
    return results


def how(op: Op, operands: Sequence[Type | None], in_loop: bool) -> str:
    """How a node runs, for the plan; `in_loop` is for the body of a `repeat`."""
    if op.name == "repeat":
        return "one loop, its states written in place"
    given = {op.operand(i): t for i, t in enumerate(operands) if t is not None}
    if op.name == "linear":
        x, w = given["x"], given["w"]
        packed = f", W{_bits(w)}A{_bits(x)}" if w.format is not None else ""
        if w.format is not None and not LAYOUTS[w.layout].by_rows:
            return f"XLA, {w.dtype} {UNPACKED}: rows cannot be read from its layout {w.layout}{packed}"
        if in_loop or _is_narrow(w.dtype):
            return f"in blocks of rows, {w.dtype}{' dequantized' if packed else ''} a block at a time{packed}"
    if op.name == "attention" and "k_before" not in given and (in_loop or "past" in given):
        return f"over {KEYS} keys at a time"
    if op.name in ("cache_update", "ring_update"):
        return "in place"
    return "XLA"


def _bits(t: Type) -> int:
    """Bits an element, without its scale."""
    return t.format.code.width if t.format is not None else NUMPY[t.dtype].itemsize * 8


# --------------------------------------------------------------------------------------------------------- slots


def _whole(x: Array | None) -> Array | None:
    if not isinstance(x, Slot):
        return x
    if isinstance(x.stack, Packed):
        return x.stack.with_planes({k: _at(p, x.index) for k, p in x.stack.planes.items()}, x.shape)
    return _at(x.stack, x.index)


def _at(stack: Array, index: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(stack, index, keepdims=False)


def _part(x: Array, at: Array, size: int, axis: int) -> Array:
    """x[at : at + size] along `axis`, of an array, a packed one or a slot."""
    stack = x.stack if isinstance(x, Slot) else x
    if isinstance(stack, Packed):
        planes = {
            k: _part(replace(x, stack=p) if isinstance(x, Slot) else p, at, size, axis) for k, p in stack.planes.items()
        }
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


def _linear(
    op: Op, dtypes: Sequence[str], bodies: Bodies, x: Array, w: Array, b: Array | None = None
) -> tuple[Array, ...] | None:
    stored = w.stack if isinstance(w, Slot) else w
    if isinstance(stored, Packed) and not LAYOUTS[stored.layout].by_rows:
        return None
    if not isinstance(w, Slot) and not _is_narrow(w.dtype):
        return None
    x, b = _floats(_whole(x)), _floats(_whole(b))
    outputs, inputs = w.shape
    rows = max(1, min(outputs, BLOCK // max(inputs, 1)))

    def block(j: Array, y: Array) -> Array:
        at = jnp.minimum(j * rows, outputs - rows)  # the last block may overlap the one before
        part = jnp.matmul(x, _floats(_part(w, at, rows, axis=0)).T)
        return jax.lax.dynamic_update_slice_in_dim(y, part.astype(y.dtype), at, axis=-1)

    y = _for(-(-outputs // rows), block, jnp.zeros((*x.shape[:-1], outputs), x.dtype))
    y = y if b is None else y + b
    return (y.astype(NUMPY[dtypes[0]]),)


def _attention(
    op: Attention,
    dtypes: Sequence[str],
    bodies: Bodies,
    q: Array,
    k: Array,
    v: Array,
    past: Array | None = None,
    count: Array | None = None,
    bias: Array | None = None,
    k_before: Array | None = None,
    v_before: Array | None = None,
) -> tuple[Array, ...] | None:
    """`Attention.eval` with both products over a few keys at a time, and only over those that can be visible."""
    if k_before is not None or (past is None and not isinstance(k, Slot)):
        return None
    q, past, count, bias = (_whole(x) for x in (q, past, count, bias))
    assert q is not None
    q, (b, s, h, d), (t, groups) = _floats(q), q.shape, k.shape[1:3]
    keys = min(KEYS, t)
    reach = t if past is None or not op.causal else jnp.minimum(jnp.max(past) + s, t)
    parts = -(-reach // keys)
    heads = q.reshape(b, s, groups, h // groups, d).transpose(0, 2, 3, 1, 4).reshape(b, groups, -1, d)

    def score(j: Array, scores: Array) -> Array:
        at = jnp.minimum(j * keys, t - keys)
        part = jnp.matmul(heads, _floats(_part(k, at, keys, axis=1)).transpose(0, 2, 3, 1))
        return jax.lax.dynamic_update_slice_in_dim(scores, part, at, axis=-1)

    scores = _for(parts, score, jnp.zeros((*heads.shape[:3], t), q.dtype)).reshape(b, h, s, t)
    p = op.weights(jnp, scores, past, count, _floats(bias)).reshape(b, groups, -1, t)

    def mix(j: Array, y: Array) -> Array:
        at = jnp.minimum(j * keys, t - keys)
        fresh = at + jnp.arange(keys, dtype="int32") >= j * keys  # the last part may overlap the one before
        part = jnp.where(fresh, jax.lax.dynamic_slice_in_dim(p, at, keys, axis=-1), 0)
        return y + jnp.matmul(part, _floats(_part(v, at, keys, axis=1)).transpose(0, 2, 1, 3))

    y = _for(parts, mix, jnp.zeros((*heads.shape[:3], v.shape[3]), q.dtype))
    y = y.reshape(b, groups, h // groups, s, v.shape[3]).transpose(0, 3, 1, 2, 4).reshape(b, s, h, v.shape[3])
    return (y.astype(NUMPY[dtypes[0]]),)


def _cache_update(
    op: Op, dtypes: Sequence[str], bodies: Bodies, cache: Array, new: Array | None, past: Array | None
) -> tuple[Array, ...] | None:
    if not isinstance(cache, Slot):
        return None
    new, past = _whole(new), _whole(past)
    assert new is not None and past is not None
    rows = past[:, None] + jnp.arange(new.shape[1], dtype="int32")
    batch = jnp.arange(new.shape[0], dtype="int32")[:, None]
    stack = cache.stack.at[cache.index, batch, rows].set(new, mode="drop", unique_indices=True)
    return (replace(cache, stack=stack),)


def _ring_update(
    op: RingUpdate, dtypes: Sequence[str], bodies: Bodies, ring: Array, *others: Array | None
) -> tuple[Array, ...] | None:
    if not isinstance(ring, Slot) or ring.shape[1] == 0:
        return None
    new, past, count = (_whole(x) for x in others)
    assert new is not None and past is not None and count is not None
    rows, before = op.rows(jnp, ring, new, past, count), op.before(jnp, _whole(ring), past)
    batch = jnp.arange(new.shape[0], dtype="int32")[:, None]
    stack = ring.stack.at[ring.index, batch, rows].set(new, mode="drop", unique_indices=True)
    return replace(ring, stack=stack), before


def _repeat(op: Repeat, dtypes: Sequence[str], bodies: Bodies, *operands: Array | None) -> tuple[Array, ...]:
    """One `lax.scan`; the stacks of states are carried, so that XLA writes into them."""
    carried, shared, stacked = op.apart(operands)
    stacks = [_whole(x) for x in stacked]

    def step(state: tuple[list[Array], list[Array]], i: Array) -> tuple[Any, Any]:
        carries, states = state
        slots = [Slot(x, i, n) for n, x in enumerate(states)] + [Slot(x, i) for x in stacks[op.states :]]
        results = bodies[0](*carries, *shared, *slots)
        new = [_written(states[n], i, n, r) for n, r in enumerate(results[op.carries : op.carries + op.states])]
        further = [_whole(r) for r in results[op.carries + op.states :]]
        return ([_whole(r) for r in results[: op.carries]], new), further

    start = [_whole(x) for x in carried], stacks[: op.states]
    (carries, states), further = jax.lax.scan(step, start, jnp.arange(op.count, dtype="int32"))
    return (*carries, *states, *further)


def _written(stack: Array, index: Array, state: int, new: Array) -> Array:
    """The stack after a run that returned `new` for its block."""
    if isinstance(new, Slot) and new.state == state:
        return new.stack
    return jax.lax.dynamic_update_index_in_dim(stack, _whole(new), index, axis=0)


_KERNELS: dict[str, Callable[..., tuple[Array, ...] | None]] = {
    "linear": _linear,
    "attention": _attention,
    "cache_update": _cache_update,
    "ring_update": _ring_update,
    "repeat": _repeat,
}


def _is_narrow(dtype: Any) -> bool:
    """Whether elements are widened or unpacked before they are multiplied; the type's name or JAX's dtype."""
    plain = NUMPY.get(dtype) if isinstance(dtype, str) else dtype
    return plain is None or np.dtype(plain).itemsize < 4


def _floats(x: Array) -> Array:
    """What a product computes in: f32, or f64 as it is. None and truth values stay."""
    if x is None or x.dtype == bool:
        return x
    if isinstance(x, Packed):
        return x.dequantize(jnp)
    return x.astype("float32") if _is_narrow(x.dtype) else x
