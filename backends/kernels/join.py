"""Operands one after the other, copied into one result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.backends.kernels.copy import copy
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import Tensor
from burnish.ir.ops.shape import Concat, Stack
from burnish.ir.types import Type

__all__ = ["ConcatCopies", "StackCopies"]


class _Copies(NativeKernel):
    """A copy for each operand."""

    def why_not(self, op: Any, *xs: Type) -> str | None:
        """Needs plain numbers."""
        return f"{xs[0]} is packed" if xs[0].format is not None else None


class ConcatCopies(_Copies):
    """concat of plain numbers."""

    name = "concat.copies"
    op = "concat"

    def emit(self, emitter: Emitter, op: Concat, results: Sequence[Type], *xs: Tensor) -> tuple[Tensor, ...]:
        """A call for each."""
        out = emitter.buffer(results[0].sizes, xs[0].dtype)
        axis, at = op.axis % len(out.shape), 0
        for x in xs:
            copy(emitter, x, out.view(out.array[(*(slice(None),) * axis, slice(at, at + x.shape[axis]))]))
            at += x.shape[axis]
        return (out,)


class StackCopies(_Copies):
    """stack of plain numbers."""

    name = "stack.copies"
    op = "stack"

    def emit(self, emitter: Emitter, op: Stack, results: Sequence[Type], *xs: Tensor) -> tuple[Tensor, ...]:
        """A call for each."""
        out = emitter.buffer(results[0].sizes, xs[0].dtype)
        for i, x in enumerate(xs):
            copy(emitter, x, out.view(out.array[i, ...]))
        return (out,)
