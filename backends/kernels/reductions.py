"""Reductions along axes, and softmax."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.backends.kernels.copy import contiguous
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.rows import items_of
from burnish.backends.native.emit import Argument, Emitter
from burnish.backends.native.tensor import Tensor
from burnish.ir.ops.reduction import Softmax
from burnish.ir.types import Type, dtype_name

__all__ = ["ReduceMax", "ReduceMean", "ReduceSum", "SoftmaxRows"]


class SoftmaxRows(NativeKernel):
    """softmax(x[…, n])"""

    name = "softmax.rows"
    op = "softmax"

    def why_not(self, op: Softmax, x: Type) -> str | None:
        """Needs f32, and the last axis."""
        if x.dtype != "f32":
            return f"x is {x}, not f32"
        return None if x.axis(op.axis) == x.rank - 1 else f"axis {op.axis} is not the last of {x}"

    def emit(self, emitter: Emitter, op: Softmax, results: Sequence[Type], x: Tensor) -> tuple[Any, ...]:
        """One call; an item is a token, of one row or more."""
        out = emitter.empty(results[0])
        assert isinstance(out, Tensor)
        items, rows, n, (to, given) = items_of(emitter, out.shape, [out, x], keep_rows=True)
        emitter.call(
            "reductions", "softmax", *given[:3], out, to.item, to.row, rows, n,
            items=items if n else 0, writes=[out], by_row=True,
        )  # fmt: skip
        return (out,)


class _Reduction(NativeKernel):
    functions: Mapping[str, str]  # by the element type

    def why_not(self, op: Any, x: Type) -> str | None:
        """Needs an element type that there is a function for, and axes that follow each other."""
        axes = sorted(x.axis(a) for a in op.axes)
        if x.dtype not in self.functions:
            return f"x is {x}, not {' or '.join(self.functions)}"
        if not axes:
            return "it reduces no axis"
        return None if axes == list(range(axes[0], axes[0] + len(axes))) else f"axes {op.axes} are apart"

    def emit(self, emitter: Emitter, op: Any, results: Sequence[Type], x: Tensor) -> tuple[Any, ...]:
        """One call; an item is what stands before the axes. What stands behind them is done side by side."""
        out = emitter.empty(results[0])
        assert isinstance(out, Tensor)
        axes = sorted(a % len(x.shape) for a in op.axes)
        before, n = x.shape[: axes[0]], math.prod(x.shape[axes[0] : axes[-1] + 1])
        behind = math.prod(x.shape[axes[-1] + 1 :])
        shape = (math.prod(before), n) if behind == 1 else (math.prod(before), n, behind)
        x = _shaped(emitter, x, shape)
        by = float(n) if self.op == "reduce_mean" else 1.0
        common: list[Argument] = [x, x.strides[0], out, 4 * behind, n, by]
        if behind != 1:
            common += [behind, x.strides[1]]
        emitter.call(
            "reductions", f"{'row' if behind == 1 else 'columns'}.{self.functions[dtype_name(x.dtype)]}", *common,
            items=shape[0] if behind else 0, writes=[out], by_row=True,
        )  # fmt: skip
        return (out,)


def _shaped(emitter: Emitter, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A view of that shape whose last axis has no gaps, of the tensor or of a copy."""
    view = x.array.reshape(shape)
    if np.may_share_memory(view, x.memory.array) and view.strides[-1] == view.itemsize:
        return x.view(view)
    x = contiguous(emitter, x)
    return x.view(x.array.reshape(shape))


class ReduceSum(_Reduction):
    """reduce_sum"""

    name = "reduce_sum.rows"
    op, functions = "reduce_sum", {"f32": "reduce_sum"}


class ReduceMean(_Reduction):
    """reduce_mean: a sum, divided"""

    name = "reduce_mean.rows"
    op, functions = "reduce_mean", {"f32": "reduce_sum"}


class ReduceMax(_Reduction):
    """reduce_max"""

    name = "reduce_max.rows"
    op, functions = "reduce_max", {"f32": "reduce_max", "i32": "reduce_max_i32"}
