"""A part of a product of floats: some rows of weights by some tokens, whatever the weights are stored in.

Four rows at a time, weights are first made f32 in scratch memory: rows are read one after the other, as a core fetches
memory fastest, and there is one code for what follows (`float_rows`). For one token, floats are read but once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.float_linear import ARGUMENTS, INPUTS, LINE, PARTS, READER, ROWS, STEP
from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.float_tile import SIZES, WIDTH, float_tile
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.stored import read_row
from burnish.backends.kernels.simd.words import call, store_word

__all__ = ["product"]

AHEAD = 1 << 14  # bytes; nearer, what is asked for of long rows evicts the token from the nearest cache


def product(kind: str, isa: Instructions) -> Callable[..., Any]:
    """Compile, for weights in `kind` (f32, f16, bf16, or a format), a function of (w, bytes between rows, rows, x,
    bytes between tokens, tokens, inputs, out, bytes between tokens, bias or 0, address of `float_rows`, scratch):
    out[tokens, rows] = x[tokens, inputs] @ w[rows, inputs].T + bias. It takes BLOCK_ROWS rows and BLOCK_TOKENS tokens
    at most.
    """
    read, whole_floats = read_row(kind, isa), kind in SIZES
    most = INPUTS if isa.lanes == WIDTH else INPUTS // 2
    dot = float_tile(kind if whole_floats else "f32", isa, 1, 1, AHEAD)
    prefetch = r.prefetch(1, 1, near=False)

    @njit(nogil=True)
    def multiply(
        w: int, w_step: int, rows: int, x: int, x_step: int, tokens: int, inputs: int, out: int, out_step: int,
        bias: int, float_rows: int, scratch: int,
    ) -> None:  # fmt: skip
        if whole_floats and tokens == 1:
            for row in range(rows):
                at, added = w + row * w_step, bias + 4 * row if bias else 0
                dot(at, 0, x, 0, inputs, True, True, 0, out + 4 * row, 0, added)
            return
        a = scratch + READER
        here = a + ARGUMENTS
        whole = max(inputs, 1)
        for i in range(0, whole, most):
            n, sums = min(most, inputs - i), here + ROWS * STEP
            for row in range(0, rows, ROWS):
                count = min(ROWS, rows - row)
                for j in range(count):
                    read(w + (row + j) * w_step, inputs, i, n, here + j * STEP, scratch)
                for j in range(ROWS):  # meanwhile the next rows come into the second cache
                    there = w + (row + ROWS + j) * w_step + w_step * i // whole
                    for line in range(0, w_step * n // whole, LINE):
                        prefetch(there + line, 0)
                store_word(a, here)
                store_word(a + 8, count)
                store_word(a + 16, x + 4 * i)
                store_word(a + 24, x_step)
                store_word(a + 32, tokens)
                store_word(a + 40, n)
                store_word(a + 48, i == 0)
                store_word(a + 56, i + most >= inputs)
                store_word(a + 64, sums)
                store_word(a + 72, out + 4 * row)
                store_word(a + 80, out_step)
                store_word(a + 88, bias + 4 * row if bias else 0)
                call(float_rows, a, 0, 0, 0)
                sums += tokens * ROWS * PARTS

    return multiply
