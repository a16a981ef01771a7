"""Products with chosen experts under XLA, which would first unpack whole matrices, or copy them out of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from burnish.ir.format import Packed
from burnish.ir.op import Array

if TYPE_CHECKING:
    from burnish.backends.xla_kernels import Slot

__all__ = ["expert_linear"]

BLOCK = 1 << 17  # weights unpacked at once: 512 KiB in f32, which stay in a core's cache


def expert_linear(x: Array, w: Array | Slot, chosen: Array) -> Array:
    """`ExpertLinear.eval` in f32, or f64 as x is, a block of rows of one expert at a time.

    Where fewer are chosen than there are, only those are read; otherwise each once, and it multiplies all inputs.
    """
    experts, outputs, inputs = w.shape
    given = _floats(jnp.broadcast_to(x, (*chosen.shape, inputs)).reshape(-1, inputs))
    choices = jnp.clip(chosen, 0, experts - 1).reshape(-1).astype("int32")
    rows = max(1, min(outputs, BLOCK // max(inputs, 1)))
    blocks, few = -(-outputs // rows), len(choices) <= experts

    def one(choice: Array, matrix: Array, at: Array, y: Array) -> Array:
        part = jax.lax.dynamic_slice_in_dim(given, choice, 1) @ matrix.T
        return jax.lax.dynamic_update_slice(y, part, (choice, at))

    def every(expert: Array, matrix: Array, at: Array, y: Array) -> Array:
        before = jax.lax.dynamic_slice_in_dim(y, at, rows, axis=1)
        part = jnp.where((choices == expert)[:, None], given @ matrix.T, before)
        return jax.lax.dynamic_update_slice_in_dim(y, part, at, axis=1)

    def step(i: Array, y: Array) -> Array:
        turn, block = i // blocks, i % blocks
        at = jnp.minimum(block * rows, outputs - rows)  # the last block may overlap the one before
        matrix = _rows(w, choices[turn] if few else turn, at, rows)
        return one(turn, matrix, at, y) if few else every(turn, matrix, at, y)

    turns = len(choices) if few else experts
    y = jnp.zeros((len(choices), outputs), given.dtype)
    y = jax.lax.fori_loop(jnp.int32(0), jnp.int32(turns * blocks), step, y)
    return y.reshape(*chosen.shape, outputs)


def _rows(w: Any, expert: Array, at: Array, rows: int) -> Array:
    """w[expert, at : at + rows] as floats, of an array, a packed one, or a block of a stack of them."""
    stack, lead = (w, ()) if not hasattr(w, "stack") else (w.stack, (w.index,))
    if not isinstance(stack, Packed):
        return _floats(_cut(stack, (*lead, expert), at, rows))
    planes = {name: _cut(plane, (*lead, expert), at, rows) for name, plane in stack.planes.items()}
    return stack.with_planes(planes, (rows, w.shape[-1])).dequantize(jnp)


def _cut(x: Array, lead: tuple[Array, ...], at: Array, rows: int) -> Array:
    """x[*lead, at : at + rows]."""
    behind = x.shape[len(lead) + 1 :]
    start = [*lead, at, *(jnp.int32(0) for _ in behind)]
    return jax.lax.dynamic_slice(x, start, [*(1 for _ in lead), rows, *behind]).reshape(rows, *behind)


def _floats(x: Array) -> Array:
    return x.astype("float32") if x.dtype.itemsize < 4 else x
