"""Linear on floats, whose weights are read as they are stored: straight from a file's pages."""

from __future__ import annotations

import math
from collections.abc import Sequence

from burnish.backends.kernels.copy import copy
from burnish.backends.kernels.elementwise import as_f32
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.rows import as_rows
from burnish.backends.kernels.stored import READER, stored_rows, why_not_stored
from burnish.backends.native.emit import Code, Emitter
from burnish.backends.native.tensor import PackedTensor, Tensor, Value
from burnish.ir.ops.linear import Linear
from burnish.ir.types import Type

__all__ = [
    "ARGUMENTS",
    "BLOCK_ROWS",
    "BLOCK_TOKENS",
    "FLOAT_ROWS",
    "INPUTS",
    "MANY",
    "PARTS",
    "READER",
    "ROWS",
    "SCRATCH",
    "STEP",
    "FloatLinear",
    "step_read_best",
    "why_not_product",
]  # fmt: skip

ROWS = 4  # of weights that are read side by side
MANY = 48  # tokens, from which on it is worth while to copy what a core works on to where it is read best
#: of many tokens, a core works at once on so many inputs (half of them where a register has 8 lanes) of four rows,
#: which stay in its nearest cache, and of a block of tokens, which stay in the next
INPUTS, BLOCK_TOKENS, BLOCK_ROWS = 1536, 144, 32
LINE, PAGE = 64, 4096  # bytes
STEP = 4 * INPUTS + LINE  # bytes between copies of rows: not a power of two, lest they evict each other
PARTS = 64  # bytes of the sixteen parts of a sum
CHUNK = 1 << 16  # bytes of weights that are worth a thread's while
FLOAT_ROWS = Code("float_rows", "multiply")  # the function that all products of floats call
ARGUMENTS = 128  # bytes of what it is given
#: what a thread needs for `simd.float_product`
SCRATCH = READER + ARGUMENTS + ROWS * STEP + BLOCK_TOKENS * BLOCK_ROWS * PARTS


class FloatLinear(NativeKernel):
    """linear(x: f32[…, K], w: f32, f16, bf16 or quantized[N, K], b?) -> f32[…, N].

    Each output is summed in one order, whatever the number of tokens, the instruction set and the threads.
    """

    name = "linear.floats"
    op = "linear"

    def why_not(self, op: Linear, x: Type, w: Type, b: Type | None = None) -> str | None:
        """Needs activations, a bias and a result in f32, and weights that are read as they are stored."""
        if op.to not in ("f32", ""):
            return f"the result is {op.to}, not f32"
        return why_not_product(x, w, b)

    def emit(
        self, emitter: Emitter, op: Linear, results: Sequence[Type], x: Tensor, w: Tensor | PackedTensor,
        b: Tensor | None = None,
    ) -> tuple[Value, ...]:  # fmt: skip
        """One call, whose items are four rows, or blocks of rows and tokens where there are many tokens."""
        out = emitter.empty(results[0])
        assert isinstance(out, Tensor)
        (rows, inputs), (kind, w, w_step) = w.shape, stored_rows(emitter, w)
        x, (tokens, x_step) = as_rows(emitter, x)
        b = None if b is None else as_f32(emitter, b)
        block_rows, block_tokens, grain = ROWS, tokens, math.ceil(CHUNK / max(ROWS * w_step, 1))
        if tokens >= MANY:
            x, x_step = _read_best(emitter, x, x_step)
            block_rows, block_tokens, grain = BLOCK_ROWS, BLOCK_TOKENS, 1
        emitter.call(
            f"float_linear:{kind}", "multiply", w, w_step, rows, x, x_step, tokens, inputs, out, 4 * rows, b,
            block_rows, block_tokens, FLOAT_ROWS,
            items=math.ceil(rows / block_rows) * math.ceil(tokens / max(block_tokens, 1)), grain=grain,
            scratch=SCRATCH, writes=[out],
        )  # fmt: skip
        return (out,)


def why_not_product(x: Type, w: Type, b: Type | None) -> str | None:
    """None where `simd.float_product` multiplies x[…, K] by weights w[…, K] and adds a bias, or why not."""
    if x.dtype != "f32":
        return f"x is {x}, not f32"
    if w.format is not None and w.format.group and INPUTS // 2 % w.format.group:
        return f"w is {w}, whose groups do not divide {INPUTS // 2}"
    return why_not_stored(w) or (f"b is {b}, wider than f32" if b is not None and b.dtype == "f64" else None)


def step_read_best(inputs: int) -> int:
    """The bytes from one row of f32 to the next, of which each begins a cache line, and no power of two lies between
    them, at which they would evict each other.
    """
    step = -(-4 * inputs // LINE) * LINE
    return step if step % PAGE else step + LINE


def _read_best(emitter: Emitter, x: Tensor, step: int) -> tuple[Tensor, int]:
    """x, whose rows are `step` bytes apart, or a copy that is read faster, with the bytes between its rows."""
    if step % LINE == 0 and step % PAGE:
        return x, step
    best = step_read_best(x.shape[-1])
    made = emitter.buffer((*x.shape[:-1], best // 4), x.dtype)
    made = made.view(made.array[..., : x.shape[-1]])
    copy(emitter, x, made)
    return made, best
