"""Four rows of f32 weights by any number of tokens: what all products of floats are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.float_linear import PARTS, ROWS, STEP
from burnish.backends.kernels.simd.float_tile import WIDTH, float_tile
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """`multiply`: all tokens by the rows of one place in scratch memory, STEP bytes apart."""
    tiles, single = _tokens(isa), float_tile("f32", isa, 1, 1)

    def multiply(a: int, _: int, __: int, ___: int) -> None:
        """w, rows, x, bytes between tokens, tokens, inputs, whether these are the first, and the last, sums, out, bytes
        between tokens, bias or 0"""
        w, rows, x, x_step, tokens = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        inputs, first, last, sums = word(a + 40), word(a + 48), word(a + 56), word(a + 64)
        out, out_step, bias = word(a + 72), word(a + 80), word(a + 88)
        if rows == ROWS:
            tiles(w, x, x_step, tokens, inputs, first, last, sums, out, out_step, bias)
            return
        for row in range(rows):
            for t in range(tokens):
                single(
                    w + row * STEP, 0, x + t * x_step, 0, inputs, first, last, sums,
                    out + 4 * row + t * out_step, 0, bias + 4 * row if bias else 0,
                )  # fmt: skip
                sums += PARTS

    return {"multiply": multiply}


def _tokens(isa: Instructions) -> Callable[..., Any]:
    """Tiles of four rows over any number of tokens, as many tokens at once as registers hold sums of."""
    whole: Callable[..., Any] | None = None
    for tokens, rows in ((1, 4), (2, 4), (3, 4), (5, 4)) if isa.lanes == WIDTH else ((1, 4), (3, 4)):
        whole = _tokens_by(float_tile("f32", isa, rows, tokens), rows, tokens, whole)
    assert whole is not None
    return whole


def _tokens_by(tile: Callable[..., Any], rows: int, tokens: int, rest: Any) -> Callable[..., Any]:
    """`tile` as long as there are as many tokens as it takes, and then `rest`."""
    ends, tile_sums = rest is None, rows * tokens * PARTS

    @njit(nogil=True)
    def run(
        w: int, x: int, x_step: int, count: int, inputs: int, first: int, last: int, sums: int, out: int, out_step: int,
        bias: int,
    ) -> None:  # fmt: skip
        while count >= tokens:
            for row in range(0, ROWS, rows):
                added = bias + 4 * row if bias else 0
                tile(w + row * STEP, STEP, x, x_step, inputs, first, last, sums, out + 4 * row, out_step, added)
                sums += tile_sums
            x, out, count = x + tokens * x_step, out + tokens * out_step, count - tokens
        if not ends:
            rest(w, x, x_step, count, inputs, first, last, sums, out, out_step, bias)

    return run
