"""Products of stacks of matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from burnish.backends.kernels.copy import contiguous
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.emit import Argument, Emitter
from burnish.backends.native.tensor import Tensor, Value
from burnish.ir.op import Op
from burnish.ir.types import Type

__all__ = ["PANEL", "ROWS", "MatmulColumns"]

ROWS, COLUMNS, FEW = 48, 256, 8  # of a result, that are an item; of FEW rows, 4 * COLUMNS, read line after line
PANEL = 32 << 10  # bytes of scratch memory


class MatmulColumns(NativeKernel):
    """matmul(a: f32[…, M, K], b: f32[…, K, N]) -> f32[…, M, N], whose leading axes broadcast.

    Each number is a sum of fused products in the order of K, whatever else is computed, and however operands lie.
    """

    name = "matmul.columns"
    op = "matmul"

    def why_not(self, op: Op, a: Type, b: Type) -> str | None:
        """Needs f32."""
        return None if a.dtype == b.dtype == "f32" else f"a is {a} and b {b}, not f32"

    def emit(self, emitter: Emitter, op: Op, results: Sequence[Type], a: Tensor, b: Tensor) -> tuple[Value, ...]:
        """One call; an item is a block of rows and columns of one matrix."""
        out = emitter.empty(results[0])
        assert isinstance(out, Tensor)
        *lead, m, n = out.shape
        inputs = a.shape[-1]
        if n > 1 and b.strides[-1] != 4:
            b = contiguous(emitter, b)
        *a_lead, a_row, a_step = np.broadcast_to(a.array, (*lead, m, inputs)).strides
        *b_lead, b_step, _ = np.broadcast_to(b.array, (*lead, inputs, n)).strides
        axes: list[Argument] = []
        for size, x, y in zip(reversed(lead), reversed(a_lead), reversed(b_lead), strict=True):
            axes += [size, x, y]
        columns = COLUMNS if m > FEW else 4 * COLUMNS
        emitter.call(
            "matmul", "columns", a, a_row, a_step, b, b_step, out, m, n, inputs, columns, len(lead), *axes,
            items=math.prod(lead) * math.ceil(m / ROWS) * math.ceil(n / columns), writes=[out], scratch=PANEL,
        )  # fmt: skip
        return (out,)
