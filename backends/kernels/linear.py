"""Linear on quantized weights and int8 activations, at the speed at which memory gives the weights.

The kernel is generic in a format's parts: what it reads follows from them. `simd.tile` is made for each format.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from burnish.backends.kernels.choices import Groups
from burnish.backends.kernels.elementwise import as_f32
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.tiles import WORD_INPUTS
from burnish.backends.native.cpu import INSTRUCTION_SETS, instruction_sets
from burnish.backends.native.emit import Argument, Emitter
from burnish.backends.native.tensor import PackedTensor, Tensor, Value
from burnish.ir.format import FORMATS, LAYOUTS, QuantFormat
from burnish.ir.op import Op
from burnish.ir.ops.linear import Linear
from burnish.ir.types import Type

__all__ = ["ACTIVATIONS", "LinearInt8", "multiply", "why_not_int8", "why_unread"]

ACTIVATIONS = "int8_32"


class LinearInt8(NativeKernel):
    """linear(x: int8_32[…, K], w: quantized[N, K] in tiles, b?) -> […, N], summed in integers within a run.

    Each output is summed in the same order whatever the number of tokens, the instruction set and the threads, so
    those do not change a bit of it.
    """

    name = "linear.int8"
    op = "linear"

    def layout_for(self, format: str) -> str | None:
        """The tiles of this CPU's best instruction set."""
        best = instruction_sets()[:1]
        return best[0].layout if best and why_unread(FORMATS[format]) is None else None

    def why_not(self, op: Linear, x: Type, w: Type, b: Type | None = None) -> str | None:
        """Needs weights of a format that it reads, in tiles that this CPU reads, and int8 activations."""
        return why_not_int8(op.to, x, w, b)

    def emit(
        self, emitter: Emitter, op: Op, results: Sequence[Type], x: PackedTensor, w: PackedTensor,
        b: Tensor | None = None,
    ) -> tuple[Value, ...]:  # fmt: skip
        """One call; an item is a tile of rows."""
        out, inputs = emitter.buffer(results[0].sizes, np.dtype("f4")), x.planes["bytes"]
        multiply(emitter, w, inputs, inputs.shape[-1], math.prod(x.shape[:-1]), out, b)
        return (out,)


def multiply(
    emitter: Emitter, w: PackedTensor, x: Tensor, x_step: int, tokens: int, out: Tensor, b: Tensor | None,
    groups: Groups | None = None,
) -> None:  # fmt: skip
    """The product with a matrix, or with those of groups of rows, whose items are tiles of rows."""
    codes, scales, (rows, inputs) = w.planes["codes"], w.planes["scales"], w.shape[-2:]
    of_stack: list[Argument] = [None] * 6
    if groups is not None:
        of_stack = [*groups.arguments, w.shape[0], codes.strides[0], scales.strides[0]]
    emitter.call(
        f"linear:{w.format}", "linear", codes, codes.strides[-4], scales, scales.strides[-3],
        inputs // (FORMATS[w.format].group or WORD_INPUTS), x, x_step, tokens, out, 4 * rows, rows,
        None if b is None else as_f32(emitter, b), *of_stack,
        items=codes.shape[-4] * (1 if groups is None else groups.most), grain=2, writes=[out],
    )  # fmt: skip


def why_not_int8(to: str, x: Type, w: Type, b: Type | None) -> str | None:
    """None where tiles of weights w[…, N, K] are multiplied with x[…, K], and a bias is added, or why not."""
    layouts = [s.layout for s in instruction_sets()]
    if w.format is None:
        return f"w is {w}, not quantized"
    if (unread := why_unread(w.format)) is not None:
        return f"w is {w}, and {unread}"
    if not layouts:
        return f"this CPU has none of {', '.join(s.name for s in INSTRUCTION_SETS)}"
    if x.dtype != ACTIVATIONS or x.layout:
        return f"x is {x}, not {ACTIVATIONS}"
    if w.layout != layouts[0]:
        return f"w is {w}, not in the layout {layouts[0]}"
    if (b is not None and b.dtype == "f64") or to not in ("f32", ""):
        return f"b is {b}, or the result {to}, wider or narrower than f32"
    return None


@functools.cache
def why_unread(format: QuantFormat) -> str | None:
    """None where the kernel reads the format, whose meaning then is that of `QuantFormat`'s parts; or why not."""
    name, run, code = format.name, format.run or format.group or WORD_INPUTS, format.code
    if type(format).dequantize is not QuantFormat.dequantize:
        return f"{name} has a meaning of its own"
    if (refusal := LAYOUTS[INSTRUCTION_SETS[0].layout].accepts(format, (1, format.group or WORD_INPUTS))) is not None:
        return refusal
    if run % WORD_INPUTS and run != WORD_INPUTS // 2:
        return f"{name} has runs of {run} inputs, not of {WORD_INPUTS // 2} or a multiple of {WORD_INPUTS}"
    signed = code.width == 8 and code.dtype == "i1" and format.part("zero") is None
    if not signed and not (code.width <= 6 and code.dtype == "u1"):
        return f"{name} has codes of {code.width} bits ({code.dtype}), not of up to 6, or of 8 with a sign"
    for p in format.parts:
        wanted = {"scale": ("f2", "f4"), "minimum": ("f2", "f4"), "zero": ("u1",)}.get(p.name, ("u1", "i1"))
        if p.dtype not in wanted:
            return f"{name} has a {p.name} of type {p.dtype}, not {' or '.join(wanted)}"
    return None
