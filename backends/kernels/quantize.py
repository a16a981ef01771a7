"""Activations to int8_32, what the linear kernels read."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.rows import as_rows
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import PackedTensor, Tensor, Value
from burnish.ir.ops.quantization import Quantize
from burnish.ir.types import Type

__all__ = ["QuantizeInt8_32"]


class QuantizeInt8_32(NativeKernel):
    """quantize(x[…, K], format="int8_32"), bit for bit the format's own on finite numbers."""

    name = "quantize.int8_32"
    op = "quantize"

    def why_not(self, op: Quantize, x: Type) -> str | None:
        """Needs the format int8_32, and f32."""
        if op.format != "int8_32":
            return f"the format is {op.format}, not int8_32"
        return None if x.dtype == "f32" else f"x is {x}, not f32"

    def emit(self, emitter: Emitter, op: Quantize, results: Sequence[Type], x: Tensor) -> tuple[Value, ...]:
        """One call; an item is a row."""
        out = emitter.empty(results[0])
        assert isinstance(out, PackedTensor)
        x, (count, step) = as_rows(emitter, x)
        plane = out.planes["bytes"]
        emitter.call(
            "quantize", "int8_32", x, step, plane, plane.shape[-1], x.shape[-1], items=count, writes=[plane],
            by_row=True,
        )  # fmt: skip
        return (out,)
