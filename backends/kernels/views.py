"""Memory operators whose result is a view: they cost nothing in a program, unless what they view must be copied first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import Tensor
from burnish.ir.op import Op
from burnish.ir.types import Type


class _View(NativeKernel):
    how_text: ClassVar[str] = "a view"

    def why_not(self, op: Op, *operands: Type | None) -> str | None:
        packed = [t for t in operands if t is not None and t.format is not None]
        return f"{packed[0]} is packed" if packed else None

    def how(self, op: Any, *operands: Any) -> str:
        """What it is."""
        return "a view"

    def emit(self, emitter: Emitter, op: Op, results: Sequence[Type], x: Tensor) -> tuple[Any, ...]:
        made = op.eval(np, x.array)
        views = made if isinstance(made, tuple) else (made,)
        if any(not np.may_share_memory(v, x.memory.array) and v.size for v in views):
            raise NotImplementedError(f"{op} of {x.strides}")
        return tuple(x.view(v) for v in views)


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
