"""The largest of each row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.rows import as_rows
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import Tensor
from burnish.ir.ops.experts import TopK
from burnish.ir.types import Type

__all__ = ["TopKRows"]

MOST = 64  # so that it is sorted by insertion


class TopKRows(NativeKernel):
    """top_k of f32, an item a row; no number (NaN) is larger than any, as in NumPy's order."""

    name = "top_k.rows"
    op = "top_k"

    def why_not(self, op: TopK, x: Type) -> str | None:
        """Needs f32, and a small k."""
        if x.dtype != "f32":
            return f"x is {x}, not f32"
        return None if op.k <= MOST else f"{op.k} of {x} are many"

    def emit(self, emitter: Emitter, op: TopK, results: Sequence[Type], x: Tensor) -> tuple[Tensor, ...]:
        """One call."""
        values, places = (emitter.buffer(t.sizes, np.dtype(d)) for t, d in zip(results, ("f4", "i4"), strict=True))
        x, (count, step) = as_rows(emitter, x)
        emitter.call(
            "top_k", "top_k", x, step, x.shape[-1], op.k, values, places,
            items=count, writes=[values, places], by_row=True, grain=-(-1024 // x.shape[-1]),
        )  # fmt: skip
        return values, places
