"""Linear on floats: the items of a product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burnish.backends.kernels.float_linear import BLOCK_ROWS, BLOCK_TOKENS, ROWS
from burnish.backends.kernels.simd.float_product import products
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import word
from burnish.backends.kernels.stored import kinds

__all__ = ["arguments", "functions"]


def arguments() -> list[str]:
    """What weights there is code for are stored in."""
    return kinds()


def functions(isa: Instructions, argument: str) -> dict[str, Callable[..., Any]]:
    """out[tokens, rows] = x[tokens, inputs] @ w[rows, inputs].T + bias, w stored in `argument`.

    `few`: an item is four rows. `many`: a block of rows and one of tokens.
    """
    few, many = products(argument, isa)

    def run_few(a: int, begin: int, end: int, scratch: int) -> None:
        """w, bytes between rows, rows, x, bytes between tokens, tokens, inputs, out, bytes between tokens, bias or 0"""
        w, w_step, rows, x, x_step = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        tokens, inputs, out, out_step, bias = word(a + 40), word(a + 48), word(a + 56), word(a + 64), word(a + 72)
        row = begin * ROWS
        few(
            w + row * w_step, w_step, min(end * ROWS, rows) - row, x, x_step, tokens, inputs, out + 4 * row, out_step,
            bias + 4 * row if bias else 0, scratch,
        )  # fmt: skip

    def run_many(a: int, begin: int, end: int, scratch: int) -> None:
        """The same."""
        w, w_step, rows, x, x_step = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        tokens, inputs, out, out_step, bias = word(a + 40), word(a + 48), word(a + 56), word(a + 64), word(a + 72)
        blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
        for item in range(begin, end):
            t, row = item // blocks * BLOCK_TOKENS, item % blocks * BLOCK_ROWS
            many(
                w + row * w_step, w_step, min(BLOCK_ROWS, rows - row), x + t * x_step, x_step,
                min(BLOCK_TOKENS, tokens - t), inputs, out + 4 * row + t * out_step, out_step,
                bias + 4 * row if bias else 0, scratch,
            )  # fmt: skip

    return {"few": run_few, "many": run_many}
