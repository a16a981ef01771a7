"""Linear on floats as they are stored: the loops around a tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.float_linear import BLOCK_ROWS, BLOCK_TOKENS, INPUTS, PARTS, ROWS, STEP
from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.float_tile import SIZES, WIDTH, float_tile, load_row
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import word

__all__ = ["functions"]

X_BYTES, W_BYTES = BLOCK_TOKENS * STEP, ROWS * STEP
AHEAD = 1024  # bytes


def functions(isa: Instructions, argument: str) -> dict[str, Callable[..., Any]]:
    """out[tokens, rows] = x[tokens, inputs] @ w[rows, inputs].T + bias, w of the element `argument`.

    `few`: an item is four rows. `many`: a block of rows and one of tokens.
    """
    size, lanes = SIZES[argument], isa.lanes
    few, many = _tokens(argument, isa, AHEAD), _tokens("f32", isa, 0)
    single, single_f32 = float_tile(argument, isa, 1, 1), float_tile("f32", isa, 1, 1)
    load, load_last, store = load_row(argument, lanes), load_row(argument, lanes, True), r.store
    load_x, load_last_x = load_row("f32", lanes), load_row("f32", lanes, True)

    @njit(nogil=True)
    def copy_x(x: int, x_step: int, tokens: int, inputs: int, to: int) -> None:
        for t in range(tokens):
            at, y = x + t * x_step, to + t * STEP
            for i in range(0, inputs, lanes):
                v = load_x(at + 4 * i, 0, lanes) if inputs - i >= lanes else load_last_x(at + 4 * i, 0, inputs - i)
                store(y + 4 * i, 0, 0, v)

    @njit(nogil=True)
    def copy_w(w: int, w_step: int, rows: int, inputs: int, to: int) -> None:
        for row in range(rows):
            at, y = w + row * w_step, to + row * STEP
            for i in range(0, inputs, lanes):
                v = load(at + size * i, 0, lanes) if inputs - i >= lanes else load_last(at + size * i, 0, inputs - i)
                store(y + 4 * i, 0, 0, v)

    def run_few(a: int, begin: int, end: int, scratch: int) -> None:
        """w, bytes between rows, rows, x, bytes between tokens, tokens, inputs, out, bytes between tokens, bias or 0"""
        w, w_step, rows, x, x_step = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        tokens, inputs, out, out_step, bias = word(a + 40), word(a + 48), word(a + 56), word(a + 64), word(a + 72)
        for row in range(begin * ROWS, min(end * ROWS, rows), ROWS):
            at, to, added = w + row * w_step, out + 4 * row, bias + 4 * row if bias else 0
            if row + ROWS <= rows:
                few(at, w_step, x, x_step, tokens, inputs, True, True, 0, to, out_step, added)
            else:
                for i in range(rows - row):
                    for t in range(tokens):
                        single(
                            at + i * w_step, 0, x + t * x_step, 0, inputs, True, True, 0,
                            to + 4 * i + t * out_step, 0, added + 4 * i if added else 0,
                        )  # fmt: skip

    def run_many(a: int, begin: int, end: int, scratch: int) -> None:
        """The same."""
        w, w_step, rows, x, x_step = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        tokens, inputs, out, out_step, bias = word(a + 40), word(a + 48), word(a + 56), word(a + 64), word(a + 72)
        blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
        xs, ws, all_sums = scratch, scratch + X_BYTES, scratch + X_BYTES + W_BYTES
        for item in range(begin, end):
            t, start = item // blocks * BLOCK_TOKENS, item % blocks * BLOCK_ROWS
            here, stop = min(BLOCK_TOKENS, tokens - t), min(start + BLOCK_ROWS, rows)
            for i in range(0, max(inputs, 1), INPUTS):
                n, first, last = min(INPUTS, inputs - i), i == 0, i + INPUTS >= inputs
                copy_x(x + t * x_step + 4 * i, x_step, here, n, xs)
                sums = all_sums
                for row in range(start, stop, ROWS):
                    count = min(ROWS, stop - row)
                    copy_w(w + row * w_step + size * i, w_step, count, n, ws)
                    to, added = out + t * out_step + 4 * row, bias + 4 * row if bias else 0
                    if count == ROWS:
                        many(ws, STEP, xs, STEP, here, n, first, last, sums, to, out_step, added)
                        sums += here * ROWS * PARTS
                    else:
                        for j in range(count):
                            for k in range(here):
                                single_f32(
                                    ws + j * STEP, 0, xs + k * STEP, 0, n, first, last, sums,
                                    to + 4 * j + k * out_step, 0, added + 4 * j if added else 0,
                                )  # fmt: skip
                                sums += PARTS

    return {"few": run_few, "many": run_many}


def _tokens(element: str, isa: Instructions, ahead: int) -> Callable[..., Any]:
    """Tiles of four rows over any number of tokens, as many tokens at once as registers hold sums of."""
    whole: Callable[..., Any] | None = None
    for tokens, rows in ((1, 4), (2, 4), (4, 4), (6, 4)) if isa.lanes == WIDTH else ((1, 4), (3, 2)):
        whole = _tokens_by(float_tile(element, isa, rows, tokens, ahead), rows, tokens, whole)
    assert whole is not None
    return whole


def _tokens_by(tile: Callable[..., Any], rows: int, tokens: int, rest: Callable[..., Any] | None) -> Callable[..., Any]:
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
