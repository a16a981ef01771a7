"""The largest elements of rows."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.rows import as_rows
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import Tensor, Value
from burnish.ir.ops.experts import TopK
from burnish.ir.types import Type

__all__ = ["TopKRows"]


class TopKRows(NativeKernel):
    """top_k(x: f32[…, N]), exactly: the largest first, those that are equal by their place; NaN is the largest."""

    name = "top_k.rows"
    op = "top_k"

    def why_not(self, op: TopK, x: Type) -> str | None:
        """Needs f32."""
        return None if x.dtype == "f32" else f"x is {x}, not f32"

    def emit(self, emitter: Emitter, op: TopK, results: Sequence[Type], x: Tensor) -> tuple[Value, ...]:
        """One call; an item is a row."""
        values, places = (emitter.empty(t) for t in results)
        assert isinstance(values, Tensor)
        assert isinstance(places, Tensor)
        n, (x, (rows, step)) = x.shape[-1], as_rows(emitter, x)
        emitter.call(
            "top_k", "top_k", x, step, n, values, places, op.k, 4 * op.k,
            items=rows, writes=[values, places], space="rows",
        )  # fmt: skip
        return values, places
