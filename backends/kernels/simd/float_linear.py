"""Linear on floats: the items of a product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burnish.backends.kernels.simd.float_product import product
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import word
from burnish.backends.kernels.stored import kinds

__all__ = ["arguments", "functions"]


def arguments() -> list[str]:
    """What weights there is code for are stored in."""
    return kinds()


def functions(isa: Instructions, argument: str) -> dict[str, Callable[..., Any]]:
    """`multiply`: out[tokens, rows] = x[tokens, inputs] @ w[rows, inputs].T + bias, w stored in `argument`. An item is
    a block of rows and one of tokens.
    """
    block = product(argument, isa)

    def multiply(a: int, begin: int, end: int, scratch: int) -> None:
        """w, bytes between rows, rows, x, bytes between tokens, tokens, inputs, out, bytes between tokens, bias or 0,
        rows of a block, tokens of a block, address of `float_rows`"""
        w, w_step, rows, x, x_step = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        tokens, inputs, out, out_step, bias = word(a + 40), word(a + 48), word(a + 56), word(a + 64), word(a + 72)
        block_rows, block_tokens, float_rows = word(a + 80), word(a + 88), word(a + 96)
        blocks = (rows + block_rows - 1) // block_rows
        for item in range(begin, end):
            t, row = item // blocks * block_tokens, item % blocks * block_rows
            block(
                w + row * w_step, w_step, min(block_rows, rows - row), x + t * x_step, x_step,
                min(block_tokens, tokens - t), inputs, out + 4 * row + t * out_step, out_step,
                bias + 4 * row if bias else 0, float_rows, scratch,
            )  # fmt: skip

    return {"multiply": multiply}
