"""Mixtures of experts: products with those that are chosen alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from burnish.backends.kernels.choices import groups_of
from burnish.backends.kernels.elementwise import as_f32
from burnish.backends.kernels.float_linear import (
    ARGUMENTS,
    BLOCK_ROWS,
    FLOAT_ROWS,
    SCRATCH,
    step_read_best,
    why_not_product,
)
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.linear import multiply, why_not_int8
from burnish.backends.kernels.stored import stored_rows
from burnish.backends.native.emit import Code, Emitter
from burnish.backends.native.tensor import PackedTensor, Tensor, Value
from burnish.ir.ops.experts import ExpertLinear
from burnish.ir.types import Type

__all__ = ["ExpertLinearInt8", "ExpertProducts"]


class ExpertProducts(NativeKernel):
    """expert_linear(x: f32[…, k or 1, K], w: f32, f16, bf16 or quantized[E, N, K], chosen, b?) -> f32[…, k, N].

    Only rows that are chosen are multiplied, by experts that are chosen; the bits of each are those of a linear.
    """

    name = "expert_linear.floats"
    op = "expert_linear"

    def why_not(self, op: ExpertLinear, x: Type, w: Type, chosen: Type, b: Type | None = None) -> str | None:
        """Needs activations, a bias and a result in f32, choices in i32, and weights that are read as they lie."""
        if op.to not in ("f32", ""):
            return f"the result is {op.to}, not f32"
        return why_not_product(x, w, b) or _why_not_chosen(chosen)

    def emit(
        self, emitter: Emitter, op: ExpertLinear, results: Sequence[Type], x: Tensor, w: Tensor | PackedTensor,
        chosen: Tensor, b: Tensor | None = None,
    ) -> tuple[Value, ...]:  # fmt: skip
        """Products of groups of rows, see `choices`; an item is one of a group and a block of its expert's rows."""
        out, (experts, rows, inputs) = emitter.buffer(results[0].sizes, np.dtype("f4")), w.shape
        kind, w, w_step = stored_rows(emitter, w)
        groups = groups_of(emitter, x, chosen, experts, out, step_read_best(inputs))
        emitter.call(
            "experts", "multiply", *groups.arguments, experts, w, w_step, rows, groups.x, groups.x_step,
            inputs, groups.out, 4 * rows, None if b is None else as_f32(emitter, b),
            Code(f"float_linear:{kind}", "multiply"), FLOAT_ROWS,
            items=groups.most * math.ceil(rows / BLOCK_ROWS), scratch=SCRATCH + ARGUMENTS, writes=[groups.out],
        )  # fmt: skip
        groups.finish(emitter, out)
        return (out,)


class ExpertLinearInt8(NativeKernel):
    """expert_linear(x: int8_32[…, k or 1, K], w: quantized[E, N, K] in tiles, chosen, b?) -> […, k, N].

    Only experts that are chosen are read; the bits of each product are those of a linear.
    """

    name = "expert_linear.int8"
    op = "expert_linear"

    def why_not(self, op: ExpertLinear, x: Type, w: Type, chosen: Type, b: Type | None = None) -> str | None:
        """Needs what `LinearInt8` does, and choices in i32."""
        return why_not_int8(op.to, x, w, b) or _why_not_chosen(chosen)

    def emit(
        self, emitter: Emitter, op: ExpertLinear, results: Sequence[Type], x: PackedTensor, w: PackedTensor,
        chosen: Tensor, b: Tensor | None = None,
    ) -> tuple[Value, ...]:  # fmt: skip
        """Products of groups of rows, see `choices`; an item is one of a group and a tile of its expert's rows."""
        out, inputs = emitter.buffer(results[0].sizes, np.dtype("f4")), x.planes["bytes"]
        groups = groups_of(emitter, inputs, chosen, w.shape[0], out, inputs.shape[-1])
        multiply(emitter, w, groups.x, groups.x_step, 0, groups.out, b, groups)
        groups.finish(emitter, out)
        return (out,)


def _why_not_chosen(chosen: Type) -> str | None:
    return None if chosen.dtype == "i32" else f"chosen is {chosen}, not i32"
