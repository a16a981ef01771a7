"""Mixtures of experts: products with those that are chosen alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from burnish.backends.kernels.copy import contiguous
from burnish.backends.kernels.elementwise import as_f32
from burnish.backends.kernels.float_linear import (
    ARGUMENTS, BLOCK_ROWS, SCRATCH, float_rows, step_read_best, why_not_product,
)  # fmt: skip
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.rows import as_rows
from burnish.backends.kernels.stored import stored_rows
from burnish.backends.native.code import addresses
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import PackedTensor, Tensor, Value
from burnish.ir.ops.experts import ExpertLinear
from burnish.ir.types import Type

__all__ = ["ExpertProducts"]


class ExpertProducts(NativeKernel):
    """expert_linear(x: f32[…, k or 1, K], w: f32, f16, bf16 or quantized[E, N, K], chosen, b?) -> f32[…, k, N].

    Only rows that are chosen are multiplied, by experts that are chosen; the bits of each are those of a linear.
    """

    name = "expert_linear.floats"
    op = "expert_linear"

    def why_not(self, op: ExpertLinear, x: Type, w: Type, chosen: Type, b: Type | None = None) -> str | None:
        """Needs activations and a bias in f32, choices in i32, and weights that are read as they are stored."""
        return why_not_product(x, w, b) or (None if chosen.dtype == "i32" else f"chosen is {chosen}, not i32")

    def emit(
        self, emitter: Emitter, op: ExpertLinear, results: Sequence[Type], x: Tensor, w: Tensor | PackedTensor,
        chosen: Tensor, b: Tensor | None = None,
    ) -> tuple[Value, ...]:  # fmt: skip
        """Sort the choices by expert, gather their inputs, multiply, and put each result in its place.

        Of the products, an item is one of the experts that are chosen and a block of rows.
        """
        out = emitter.empty(results[0])
        assert isinstance(out, Tensor)
        (experts, rows, inputs), count, each = w.shape, math.prod(chosen.shape), x.shape[-2]
        kind, w, w_step = stored_rows(emitter, w)
        chosen, b = contiguous(emitter, chosen), None if b is None else as_f32(emitter, b)
        x, (_, x_step) = as_rows(emitter, x)
        x_choices = chosen.shape[-1] if each == 1 else 1  # that share a row of x
        most, step = min(count, experts), step_read_best(inputs)
        integers = np.dtype("i4")
        starts, order, found = (emitter.buffer((n,), integers) for n in (experts + 1, count, most + 1))
        gathered = emitter.buffer((count, step // 4), np.dtype("f4"))
        made = emitter.buffer((count, rows), np.dtype("f4"))
        unit, product = "experts", addresses(f"float_linear:{kind}", emitter.isa)["multiply"]
        emitter.call(
            unit,
            "sort",
            chosen,
            count,
            experts,
            starts,
            order,
            found,
            items=min(count, 1),
            writes=[starts, order, found],
        )
        emitter.call(
            unit, "gather", order, x, x_step, x_choices, inputs, gathered, step, items=count, writes=[gathered]
        )  # fmt: skip
        emitter.call(
            unit, "multiply", found, starts, w, w_step, rows, gathered, step, inputs, made, 4 * rows, b,
            product, float_rows(emitter),
            items=most * math.ceil(rows / BLOCK_ROWS), scratch=SCRATCH + ARGUMENTS, writes=[made],
        )  # fmt: skip
        emitter.call(unit, "scatter", order, made, 4 * rows, out, items=count, writes=[out])
        return (out,)
