"""What follows from where tokens stand: positions, and biases by the distance from query to key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.emit import Argument, Emitter
from burnish.backends.native.tensor import Memory, Tensor
from burnish.ir.ops.attention import Alibi, Positions, RelativeBias, buckets_by_distance
from burnish.ir.ops.shape import Iota
from burnish.ir.types import NUMPY, Type

__all__ = ["AlibiRows", "IotaFixed", "PositionsNative", "RelativeBiasHeads"]


class PositionsNative(NativeKernel):
    """positions, an item a token."""

    name = "positions.native"
    op = "positions"

    def why_not(self, op: Positions, ids: Type, past: Type | None = None) -> str | None:
        """Takes any."""
        return None

    def emit(
        self, emitter: Emitter, op: Positions, results: Sequence[Type], ids: Tensor, past: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """One call."""
        (batch, tokens) = ids.shape
        out = emitter.buffer(ids.shape, np.dtype("i4"))
        emitter.call(
            "positions", "positions", *_past(past), tokens, out,
            items=batch * tokens, writes=[out], by_row=True, grain=1024,
        )  # fmt: skip
        return (out,)


class IotaFixed(NativeKernel):
    """iota, made with the plan."""

    name = "iota.fixed"
    op = "iota"

    def why_not(self, op: Iota) -> str | None:
        """Takes any."""
        return None

    def how(self, op: Any, *operands: Any) -> str:
        """When it is made."""
        return "made with the plan"

    def emit(self, emitter: Emitter, op: Iota, results: Sequence[Type]) -> tuple[Tensor, ...]:
        """No call."""
        made = np.arange(results[0].sizes[0], dtype=NUMPY[op.dtype])
        return (Tensor(Memory(made, "fixed"), made),)


class RelativeBiasHeads(NativeKernel):
    """relative_bias, an item a head."""

    name = "relative_bias.heads"
    op = "relative_bias"

    def why_not(self, op: RelativeBias, table: Type, past: Type | None = None) -> str | None:
        """Needs a table of f32."""
        return None if table.dtype == "f32" else f"the table is {table}, not f32"

    def emit(
        self, emitter: Emitter, op: RelativeBias, results: Sequence[Type], table: Tensor, past: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """One call."""
        (batch, heads, queries, keys), of_each = results[0].sizes, table.shape[0] // (2 if op.bidirectional else 1)
        out = emitter.buffer((batch, heads, queries, keys), table.dtype)
        lookup = buckets_by_distance(of_each, op.max_distance)
        emitter.call(
            "positions", "relative_bias", *_past(past), heads, queries, keys, table, *table.strides,
            Tensor(Memory(lookup, "fixed"), lookup), op.max_distance, of_each if op.bidirectional else 0, out,
            items=batch * heads if queries * keys else 0, writes=[out], scratch=4 * (queries + keys),
        )  # fmt: skip
        return (out,)


class AlibiRows(NativeKernel):
    """alibi, an item a query of a head."""

    name = "alibi.rows"
    op = "alibi"

    def why_not(self, op: Alibi, slopes: Type, past: Type | None = None) -> str | None:
        """Needs slopes of f32."""
        return None if slopes.dtype == "f32" else f"slopes are {slopes}, not f32"

    def emit(
        self, emitter: Emitter, op: Alibi, results: Sequence[Type], slopes: Tensor, past: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """One call."""
        batch, heads, queries, keys = results[0].sizes
        out = emitter.buffer((batch, heads, queries, keys), np.dtype("f4"))
        emitter.call(
            "positions", "alibi", *_past(past), heads, queries, keys, slopes, slopes.strides[0], out,
            items=batch * heads * queries, writes=[out], grain=-(-1024 // max(1, keys)),
        )  # fmt: skip
        return (out,)


def _past(past: Tensor | None) -> tuple[Argument, Argument]:
    """Where it is, and the bytes between sequences; nowhere without one."""
    return (past, past.strides[0]) if past is not None else (None, 0)
