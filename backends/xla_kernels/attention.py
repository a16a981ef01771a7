"""Attention over a few keys at a time."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from burnish.backends.xla_kernels.kernel import InStack, XlaKernel, floats, not_on_a_cpu, part_of, repeated
from burnish.ir.op import Array
from burnish.ir.ops.attention import Attention
from burnish.ir.types import NUMPY, Type

KEYS = 64  # read at once


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
        sinks: Type | None = None,
    ) -> str | None:
        """Needs a CPU, and keys in one piece, of which it is said how many there are, or that XLA would copy first."""
        if (refused := not_on_a_cpu()) is not None:  # a loop's turns are slow elsewhere
            return refused
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
        sinks: Array | None = None,
    ) -> tuple[Array, ...]:
        q, (b, s, h, d), (t, groups) = floats(q), q.shape, k.shape[1:3]
        keys = min(KEYS, t)
        reach = t if past is None or not op.causal else jnp.minimum(jnp.max(past) + s, t)
        parts = -(-reach // keys)
        heads = q.reshape(b, s, groups, h // groups, d).transpose(0, 2, 3, 1, 4).reshape(b, groups, -1, d)

        def score(j: Array, scores: Array) -> Array:
            at = jnp.minimum(j * keys, t - keys)
            part = jnp.matmul(heads, floats(part_of(k, {1: (at, keys)})).transpose(0, 2, 3, 1))
            return jax.lax.dynamic_update_slice_in_dim(scores, part, at, axis=-1)

        scores = repeated(parts, score, jnp.zeros((*heads.shape[:3], t), q.dtype)).reshape(b, h, s, t)
        p = op.weights(jnp, scores, past, count, floats(bias), sinks=floats(sinks)).reshape(b, groups, -1, t)

        def mix(j: Array, y: Array) -> Array:
            at = jnp.minimum(j * keys, t - keys)
            fresh = at + jnp.arange(keys, dtype="int32") >= j * keys  # the last part may overlap the one before
            part = jnp.where(fresh, jax.lax.dynamic_slice_in_dim(p, at, keys, axis=-1), 0)
            return y + jnp.matmul(part, floats(part_of(v, {1: (at, keys)})).transpose(0, 2, 1, 3))

        y = repeated(parts, mix, jnp.zeros((*heads.shape[:3], v.shape[3]), q.dtype))
        y = y.reshape(b, groups, h // groups, s, v.shape[3]).transpose(0, 3, 1, 2, 4).reshape(b, s, h, v.shape[3])
        return (y.astype(NUMPY[dtypes[0]]),)
