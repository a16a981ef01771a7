"""Caches and rings that lie in a stack, written where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp

from burnish.backends.xla_kernels.kernel import InStack, Slot, XlaKernel, whole
from burnish.ir.op import Array, Op
from burnish.ir.ops.attention import RingUpdate
from burnish.ir.types import Type


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
