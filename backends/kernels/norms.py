"""rms_norm and layer_norm of f32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.backends.kernels.copy import contiguous
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.rows import items_of
from burnish.backends.native.emit import Argument, Emitter
from burnish.backends.native.tensor import Tensor
from burnish.ir.ops.normalization import LayerNorm, RmsNorm
from burnish.ir.types import Type, dtype_name

__all__ = ["LayerNormRows", "RmsNormRows"]

WEIGHTS = ("f32", "f16", "bf16")


class _Norm(NativeKernel):
    def why_not(self, op: Any, x: Type, w: Type, b: Type | None = None) -> str | None:
        """Needs x in f32, and weights in one of WEIGHTS."""
        if x.dtype != "f32":
            return f"x is {x}, not f32"
        types = {t.dtype for t in (w, b) if t is not None}
        if len(types) > 1:
            return f"w is {w} and b is {b}"
        return None if types <= set(WEIGHTS) else f"w is {w}, not one of {', '.join(WEIGHTS)}"

    def call(self, emitter: Emitter, result: Type, x: Tensor, w: Tensor, *more: Argument) -> tuple[Any, ...]:
        """One call; an item is a token, of one row or more."""
        out = emitter.empty(result)
        assert isinstance(out, Tensor)
        items, rows, n, (to, given) = items_of(emitter, out.shape, [out, x], keep_rows=True)
        emitter.call(
            f"norms:{dtype_name(w.dtype)}", self.op, *given[:3], out, to.item, to.row, rows, n, 1 / max(n, 1), w, *more,
            items=items if n else 0, writes=[out], by_row=True,
        )  # fmt: skip
        return (out,)


class RmsNormRows(_Norm):
    """rms_norm(x[…, H], w[H])"""

    name = "rms_norm.rows"
    op = "rms_norm"

    def emit(self, emitter: Emitter, op: RmsNorm, results: Sequence[Type], x: Tensor, w: Tensor) -> tuple[Any, ...]:
        """As `call`."""
        return self.call(emitter, results[0], x, contiguous(emitter, w), op.eps, op.offset)


class LayerNormRows(_Norm):
    """layer_norm(x[…, H], w[H], b[H])"""

    name = "layer_norm.rows"
    op = "layer_norm"

    def emit(
        self, emitter: Emitter, op: LayerNorm, results: Sequence[Type], x: Tensor, w: Tensor, b: Tensor | None = None
    ) -> tuple[Any, ...]:
        """As `call`."""
        bias = None if b is None else contiguous(emitter, b)
        return self.call(emitter, results[0], x, contiguous(emitter, w), op.eps, bias)
