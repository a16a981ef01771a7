"""Rows of a table at ids, read from where it lies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from burnish.backends.kernels.copy import contiguous
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.stored import READER, stored_rows, why_not_stored
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import PackedTensor, Tensor, Value
from burnish.ir.ops.linear import Embedding
from burnish.ir.types import Type

__all__ = ["EmbeddingRows"]


class EmbeddingRows(NativeKernel):
    """embedding(ids: i32 or i64[…], w[V, H]) -> f32[…, H], bit for bit what `evaluate` gives: w in f32, f16, bf16 or
    quantized, as it lies in a file.
    """

    name = "embedding.rows"
    op = "embedding"

    def why_not(self, op: Embedding, ids: Type, w: Type) -> str | None:
        """Needs a table of floats, or quantized in a format that is read by its parts, and a result in f32."""
        if ids.dtype not in ("i32", "i64"):
            return f"ids are {ids}, not i32 or i64"
        to = op.to or ("f32" if w.format is not None else w.dtype)
        return why_not_stored(w) or (None if to == "f32" else f"the result is {to}, not f32")

    def emit(
        self, emitter: Emitter, op: Embedding, results: Sequence[Type], ids: Tensor, w: Tensor | PackedTensor
    ) -> tuple[Value, ...]:
        """One call; an item is an id."""
        out = emitter.empty(results[0])
        assert isinstance(out, Tensor)
        (rows, n), (kind, table, step), ids = w.shape, stored_rows(emitter, w), contiguous(emitter, ids)
        size = ids.dtype.itemsize
        emitter.call(
            f"embedding:{kind}", "look_up", ids, size, size, table, step, rows, out, 4 * n, n,
            items=math.prod(ids.shape), scratch=READER, writes=[out], by_row=True,
        )  # fmt: skip
        return (out,)
