"""Norms and element by element: kernels of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.copy import contiguous
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import Tensor
from burnish.ir.op import Op
from burnish.ir.types import Type


class _Same(NativeKernel):
    """Of f32 operands that are as large as the result."""

    def why_not(self, op: Op, *operands: Type | None) -> str | None:
        first = operands[0]
        if any(t is None or t.dtype != "f32" for t in operands):
            return f"{', '.join(map(str, operands))} are not all f32"
        if any(t.shape != first.shape for t in operands):
            return f"{', '.join(map(str, operands))} are not of one shape"
        return None

    def emit(self, emitter: Emitter, op: Op, results: Sequence[Type], *operands: Tensor) -> tuple[Any, ...]:
        out = emitter.empty(results[0])
        arguments: list[Any] = []
        for t in (*operands, out):
            t, (count, step) = as_rows(emitter, t)
            arguments += [t, step]
        emitter.call("rows", op.name, *arguments, out.shape[-1], items=count, writes=[out], space="rows")
        return (out,)


def as_rows(emitter: Emitter, t: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """A tensor whose rows lie at equal distances, each without gaps, with their count and that distance: `t`, or a copy."""
    rows = t.rows()
    if rows is not None and t.strides[-1] in (t.dtype.itemsize, 0 if t.shape[-1] == 1 else t.dtype.itemsize):
        return t, rows
    made = contiguous(emitter, t)
    return made, (math.prod(t.shape[:-1]), made.strides[-2] if len(t.shape) > 1 else 0)


class RmsNormRows(NativeKernel):
    name = "rms_norm.rows"
    op = "rms_norm"

    def why_not(self, op: Any, x: Type, w: Type) -> str | None:
        return None if x.dtype == w.dtype == "f32" else f"{x}, {w} are not f32"

    def emit(self, emitter: Emitter, op: Any, results: Sequence[Type], x: Tensor, w: Tensor) -> tuple[Any, ...]:
        out, n = emitter.empty(results[0]), x.shape[-1]
        x, (count, step) = as_rows(emitter, x)
        emitter.call("rows", "rms_norm", x, step, w, out, 4 * n, n, 1 / n, op.eps, op.offset, items=count, writes=[out], space="rows")
        return (out,)


class AddRows(_Same):
    name = "add.rows"
    op = "add"


class MulRows(_Same):
    name = "mul.rows"
    op = "mul"


class SiluRows(_Same):
    name = "silu.rows"
    op = "silu"
