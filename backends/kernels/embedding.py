"""Rows of a table at ids, read from where it lies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from burnish.backends.kernels.copy import contiguous
from burnish.backends.kernels.dequantize import scratch_bytes, why_not_floats
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.rows import as_rows
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import PackedTensor, Tensor, Value
from burnish.ir.format import FORMATS
from burnish.ir.ops.linear import Embedding
from burnish.ir.types import Type, dtype_name

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
        if w.format is None:
            wanted = "f32, f16 or bf16"
            refusal = None if w.dtype in ("f32", "f16", "bf16") else f"w is {w}, not {wanted}"
            to = op.to or w.dtype
        else:
            refusal, to = why_not_floats(w.format), op.to or "f32"
            refusal = f"w is {w}, not in the layout of files" if w.layout else refusal
        return refusal or (None if to == "f32" else f"the result is {to}, not f32")

    def emit(
        self, emitter: Emitter, op: Embedding, results: Sequence[Type], ids: Tensor, w: Tensor | PackedTensor
    ) -> tuple[Value, ...]:
        """One call; an item is an id."""
        out = emitter.empty(results[0])
        assert isinstance(out, Tensor)
        scratch = 0
        if isinstance(w, PackedTensor):
            unit, table, scratch = w.format, w.planes["bytes"], scratch_bytes(FORMATS[w.format])
        else:
            unit, table = dtype_name(w.dtype), w
        ids, (table, (_, step)), (rows, n) = contiguous(emitter, ids), as_rows(emitter, table), w.shape
        size = ids.dtype.itemsize
        emitter.call(
            f"embedding:{unit}", "rows", ids, size, size, table, step, rows, out, 4 * n, n,
            items=math.prod(ids.shape), scratch=scratch, writes=[out], space="rows",
        )  # fmt: skip
        return (out,)
