"""Memory operators whose result is a view, or one of a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.backends.kernels.copy import contiguous
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import Tensor
from burnish.ir.op import Op
from burnish.ir.types import Type


class _View(NativeKernel):
    def why_not(self, op: Op, *operands: Type | None) -> str | None:
        packed = [t for t in operands if t is not None and t.format is not None]
        return f"{packed[0]} is packed" if packed else None

    def how(self, op: Any, *operands: Any) -> str:
        """What it is."""
        return "a view"

    def emit(self, emitter: Emitter, op: Op, results: Sequence[Type], x: Tensor) -> tuple[Any, ...]:
        """No call, or one of a copy."""
        views = self._views(op, x.array)
        if all(np.may_share_memory(v, x.array) or not v.size for v in views):
            return tuple(x.view(v) for v in views)
        made = contiguous(emitter, x)
        return tuple(made.view(v) for v in self._views(op, made.array))

    def _views(self, op: Any, x: np.ndarray) -> Sequence[np.ndarray]:
        made = op.eval(np, x)
        return made if isinstance(made, tuple) else (made,)


class ReshapeView(_View):
    name = "reshape.view"
    op = "reshape"


class SqueezeView(_View):
    name = "squeeze.view"
    op = "squeeze"


class UnsqueezeView(_View):
    name = "unsqueeze.view"
    op = "unsqueeze"


class TransposeView(_View):
    name = "transpose.view"
    op = "transpose"


class SplitView(_View):
    name = "split.view"
    op = "split"


class SliceView(_View):
    name = "slice.view"
    op = "slice"


class IndexView(_View):
    name = "index.view"
    op = "index"

    def _views(self, op: Any, x: np.ndarray) -> Sequence[np.ndarray]:
        return (x[op.index, ...],)  # of one axis too, where NumPy's own is a number


class BroadcastView(_View):
    """Whose elements lie at the same place, in no bytes between them: nothing writes into a view."""

    name = "broadcast_to.view"
    op = "broadcast_to"
