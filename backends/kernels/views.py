"""Memory operators whose result is a view, or one of a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.copy import contiguous
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
        views = _views(op, x)
        return views if views is not None else _views(op, contiguous(emitter, x)) or ()


def _views(op: Op, x: Tensor) -> tuple[Tensor, ...] | None:
    made = op.eval(np, x.array)
    views = made if isinstance(made, tuple) else (made,)
    if all(np.may_share_memory(v, x.memory.array) or not v.size for v in views):
        return tuple(x.view(v) for v in views)
    return None


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


class BroadcastView(_View):
    """Whose elements lie at the same place, in no bytes between them: nothing writes into a view."""

    name = "broadcast_to.view"
    op = "broadcast_to"
