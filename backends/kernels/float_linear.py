"""Linear on floats, whose weights are read as they are stored: straight from a file's pages."""

from __future__ import annotations

import math
from collections.abc import Sequence

from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.rows import as_rows
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import Tensor, Value
from burnish.ir.op import Op
from burnish.ir.types import Type, dtype_name

__all__ = ["BLOCK_ROWS", "BLOCK_TOKENS", "INPUTS", "MANY", "PARTS", "ROWS", "SCRATCH", "STEP", "FloatLinear"]

STORED = ("f32", "f16", "bf16")
ROWS = 4  # of weights that are read side by side
MANY = 48  # tokens, from which on it is worth while to copy what a core works on to where it is read best
#: of many tokens, a core works at once on so many inputs of four rows, which stay in its nearest cache, and of a block of
#: tokens, which stay in the next
INPUTS, BLOCK_TOKENS, BLOCK_ROWS = 1024, 48, 64
STEP = 4 * INPUTS + 64  # bytes between their copies: not a power of two, lest they evict each other
CHUNK = 1 << 16  # bytes of weights that are worth a thread's while
PARTS = 64  # bytes of the sixteen parts of a sum
SCRATCH = (BLOCK_TOKENS + ROWS) * STEP + BLOCK_TOKENS * BLOCK_ROWS * PARTS


class FloatLinear(NativeKernel):
    """linear(x: f32[…, K], w: f32, f16 or bf16[N, K], b?) -> f32[…, N].

    Each output is summed in one order, whatever the number of tokens, the instruction set and the threads.
    """

    name = "linear.floats"
    op = "linear"

    def why_not(self, op: Op, x: Type, w: Type, b: Type | None = None) -> str | None:
        """Needs activations, a bias and a result in f32, and weights that are stored as floats."""
        if w.dtype not in STORED:
            return f"w is {w}, not {', '.join(STORED)}"
        if x.dtype != "f32" or op.to not in ("f32", ""):
            return f"x is {x}, or the result {op.to}, not f32"
        return None if b is None or b.dtype == "f32" else f"b is {b}, not f32"

    def emit(
        self, emitter: Emitter, op: Op, results: Sequence[Type], x: Tensor, w: Tensor, b: Tensor | None = None
    ) -> tuple[Value, ...]:
        """One call, whose items are four rows, or blocks of rows and tokens where there are many tokens."""
        out = emitter.empty(results[0])
        assert isinstance(out, Tensor)
        rows, inputs = w.shape
        (x, (tokens, x_step)), (w, (_, w_step)) = as_rows(emitter, x), as_rows(emitter, w)
        b = None if b is None else as_rows(emitter, b)[0]
        if tokens < MANY:
            how, items, grain, scratch = "few", math.ceil(rows / ROWS), math.ceil(CHUNK / max(ROWS * w_step, 1)), 0
        else:
            how, grain, scratch = "many", 1, SCRATCH
            items = math.ceil(rows / BLOCK_ROWS) * math.ceil(tokens / BLOCK_TOKENS)
        emitter.call(
            f"float_linear:{dtype_name(w.dtype)}", how, w, w_step, rows, x, x_step, tokens, inputs, out, 4 * rows, b,
            items=items if tokens else 0, grain=grain, scratch=scratch, writes=[out],
        )  # fmt: skip
        return (out,)
