"""A part of a product of floats: some rows of weights by some tokens, whatever the weights are stored in.

Weights that are quantized, and all that many tokens are multiplied by, are first made f32 in scratch memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numba import njit

from burnish.backends.kernels.float_linear import INPUTS, PARTS, READER, ROWS, STEP
from burnish.backends.kernels.simd.float_tile import WIDTH, float_tile
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.stored import read_row
from burnish.ir.format import FORMATS

__all__ = ["Products", "products"]

AHEAD = 1024  # bytes


class Products(NamedTuple):
    """Functions of (w, bytes between rows, rows, x, bytes between tokens, tokens, inputs, out, bytes between tokens,
    bias or 0, scratch): out[tokens, rows] = x[tokens, inputs] @ w[rows, inputs].T + bias.
    """

    few: Callable[..., Any]
    many: Callable[..., Any]  # no more than BLOCK_ROWS rows and BLOCK_TOKENS tokens


def products(kind: str, isa: Instructions) -> Products:
    """Compile them for weights in `kind`: f32, f16, bf16, or a format."""
    tiles, single = _tokens("f32", isa, 0), float_tile("f32", isa, 1, 1)
    read = read_row(kind, isa)

    @njit(nogil=True)
    def multiply_rows(
        w: int, w_step: int, rows: int, x: int, x_step: int, tokens: int, inputs: int, first: bool, last: bool,
        sums: int, out: int, out_step: int, bias: int,
    ) -> None:  # fmt: skip
        if rows == ROWS:
            tiles(w, w_step, x, x_step, tokens, inputs, first, last, sums, out, out_step, bias)
            return
        for row in range(rows):
            for t in range(tokens):
                single(
                    w + row * w_step, 0, x + t * x_step, 0, inputs, first, last, sums,
                    out + 4 * row + t * out_step, 0, bias + 4 * row if bias else 0,
                )  # fmt: skip
                sums += PARTS

    @njit(nogil=True)
    def many(
        w: int, w_step: int, rows: int, x: int, x_step: int, tokens: int, inputs: int, out: int, out_step: int,
        bias: int, scratch: int,
    ) -> None:  # fmt: skip
        here = scratch + READER
        for i in range(0, max(inputs, 1), INPUTS):
            n, sums = min(INPUTS, inputs - i), here + ROWS * STEP
            for row in range(0, rows, ROWS):
                count = min(ROWS, rows - row)
                for j in range(count):
                    read(w + (row + j) * w_step, inputs, i, n, here + j * STEP, scratch)
                multiply_rows(
                    here, STEP, count, x + 4 * i, x_step, tokens, n, i == 0, i + INPUTS >= inputs, sums,
                    out + 4 * row, out_step, bias + 4 * row if bias else 0,
                )  # fmt: skip
                sums += tokens * ROWS * PARTS

    @njit(nogil=True)
    def few_quantized(
        w: int, w_step: int, rows: int, x: int, x_step: int, tokens: int, inputs: int, out: int, out_step: int,
        bias: int, scratch: int,
    ) -> None:  # fmt: skip
        here, step = scratch + READER, 4 * inputs + 64
        for row in range(0, rows, ROWS):
            count = min(ROWS, rows - row)
            for j in range(count):
                read(w + (row + j) * w_step, inputs, 0, inputs, here + j * step, scratch)
            multiply_rows(
                here, step, count, x, x_step, tokens, inputs, True, True, 0,
                out + 4 * row, out_step, bias + 4 * row if bias else 0,
            )  # fmt: skip

    if kind in FORMATS:
        return Products(few_quantized, many)
    stored, single_stored = _tokens(kind, isa, AHEAD), float_tile(kind, isa, 1, 1)

    @njit(nogil=True)
    def few(
        w: int, w_step: int, rows: int, x: int, x_step: int, tokens: int, inputs: int, out: int, out_step: int,
        bias: int, scratch: int,
    ) -> None:  # fmt: skip
        for row in range(0, rows, ROWS):
            at, to, added = w + row * w_step, out + 4 * row, bias + 4 * row if bias else 0
            if rows - row >= ROWS:
                stored(at, w_step, x, x_step, tokens, inputs, True, True, 0, to, out_step, added)
            else:
                for i in range(rows - row):
                    for t in range(tokens):
                        single_stored(
                            at + i * w_step, 0, x + t * x_step, 0, inputs, True, True, 0,
                            to + 4 * i + t * out_step, 0, added + 4 * i if added else 0,
                        )  # fmt: skip

    return Products(few, many)


def _tokens(element: str, isa: Instructions, ahead: int) -> Callable[..., Any]:
    """Tiles of four rows over any number of tokens, as many tokens at once as registers hold sums of."""
    whole: Callable[..., Any] | None = None
    for tokens, rows in ((1, 4), (2, 4), (4, 4), (6, 4)) if isa.lanes == WIDTH else ((1, 4), (3, 2)):
        whole = _tokens_by(float_tile(element, isa, rows, tokens, ahead), rows, tokens, whole)
    assert whole is not None
    return whole


def _tokens_by(tile: Callable[..., Any], rows: int, tokens: int, rest: Any) -> Callable[..., Any]:
    """`tile` as long as there are as many tokens as it takes, and then `rest`."""
    ends, tile_sums = rest is None, rows * tokens * PARTS

    @njit(nogil=True)
    def run(
        w: int, w_step: int, x: int, x_step: int, count: int, inputs: int, first: bool, last: bool, sums: int,
        out: int, out_step: int, bias: int,
    ) -> None:  # fmt: skip
        while count >= tokens:
            for row in range(0, ROWS, rows):
                added = bias + 4 * row if bias else 0
                tile(w + row * w_step, w_step, x, x_step, inputs, first, last, sums, out + 4 * row, out_step, added)
                sums += tile_sums
            x, out, count = x + tokens * x_step, out + tokens * out_step, count - tokens
        if not ends:
            rest(w, w_step, x, x_step, count, inputs, first, last, sums, out, out_step, bias)

    return run
