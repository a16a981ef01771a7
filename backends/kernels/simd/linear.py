"""Linear on quantized weights and int8 activations: the loops around a tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.simd.choices import nearest, share
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.tile import affine_tile
from burnish.backends.kernels.simd.words import i32_at, word
from burnish.ir.format import FORMATS

__all__ = ["arguments", "functions"]

TOKENS = 4  # at once, where there are so many
#: bytes of codes that are asked for ahead: of one token's, all there is to wait for; of four's, time is left
AHEAD, AHEAD_OF_ONE = 1024, 3072


def arguments() -> list[str]:
    """The formats that there is code for."""
    from burnish.backends.kernels.linear import why_unread

    return [name for name, format in FORMATS.items() if why_unread(format) is None]


def functions(isa: Instructions, argument: str) -> dict[str, Callable[..., Any]]:
    """`linear`: out[tokens, rows] = x[tokens, K] @ w[rows, K].T + bias; an item is a tile of rows, of experts a tile of
    those of a group's, see `choices`.

    All tokens go past a tile's weights before the next tile's, so that these are read from memory once.
    """
    format, lanes, most = FORMATS[argument], isa.lanes, isa.rows
    several = affine_tile(format, isa, most, TOKENS, AHEAD)
    four = affine_tile(format, isa, 1, TOKENS, AHEAD) if most > 1 else several
    two, one = affine_tile(format, isa, 1, 2, AHEAD_OF_ONE), affine_tile(format, isa, 1, 1, AHEAD_OF_ONE)

    @njit(nogil=True)
    def multiply(
        codes: int, code_bytes: int, scales: int, scale_bytes: int, groups: int, x: int, x_step: int, tokens: int,
        out: int, out_step: int, rows: int, bias: int, tile: int, end: int,
    ) -> None:  # fmt: skip
        together = most if tokens >= TOKENS else 1
        while tile < end:
            count = together if tile + together <= end else 1
            in_fours = tokens // TOKENS * TOKENS
            if count > 1:
                c, s, left = codes + tile * code_bytes, scales + tile * scale_bytes, rows - tile * lanes
                o, b = out + 4 * lanes * tile, bias + 4 * lanes * tile if bias else 0
                for t in range(0, in_fours, TOKENS):
                    y, z = x + t * x_step, o + t * out_step
                    several(c, code_bytes, s, scale_bytes, y, x_step, groups, z, out_step, left, b)
            for i in range(tile, tile + count):
                c, s, left = codes + i * code_bytes, scales + i * scale_bytes, rows - i * lanes
                o, b = out + 4 * lanes * i, bias + 4 * lanes * i if bias else 0
                t = 0
                if count > 1:
                    t = in_fours
                while t < tokens:
                    y, z = x + t * x_step, o + t * out_step
                    if tokens - t >= TOKENS:
                        four(c, code_bytes, s, scale_bytes, y, x_step, groups, z, out_step, left, b)
                        t += TOKENS
                    elif tokens - t >= 2:
                        two(c, code_bytes, s, scale_bytes, y, x_step, groups, z, out_step, left, b)
                        t += 2
                    else:
                        one(c, code_bytes, s, scale_bytes, y, x_step, groups, z, out_step, left, b)
                        t += 1
            tile += count

    def linear(a: int, begin: int, end: int, scratch: int) -> None:
        """codes, bytes of a tile's codes, scales, bytes of a tile's scales, groups, x, bytes of a token, tokens, out,
        bytes of a token, rows, bias or 0; of a stack of matrices, the experts of groups of tokens, where each group
        starts, groups of tokens, experts, bytes of a matrix's codes, of its scales; else zeros"""
        codes, code_bytes, scales, scale_bytes = word(a), word(a + 8), word(a + 16), word(a + 24)
        groups, x, x_step, tokens = word(a + 32), word(a + 40), word(a + 48), word(a + 56)
        out, out_step, rows, bias = word(a + 64), word(a + 72), word(a + 80), word(a + 88)
        chosen, starts, token_groups, experts = word(a + 96), word(a + 104), word(a + 112), word(a + 120)
        matrix_codes, matrix_scales = word(a + 128), word(a + 136)
        tiles, expert, first, tile, stop = (rows + lanes - 1) // lanes, 0, 0, begin, end
        if chosen:
            tile, stop = share(starts, token_groups, tiles, begin), share(starts, token_groups, tiles, end)
        while tile < stop:
            here, last = tile, stop
            if chosen:
                group = tile // tiles
                expert, first = nearest(chosen + 4 * group, experts), i32_at(starts + 4 * group)
                tokens = i32_at(starts + 4 * group + 4) - first
                here, last = tile - group * tiles, min(stop - group * tiles, tiles)
            multiply(
                codes + expert * matrix_codes, code_bytes, scales + expert * matrix_scales, scale_bytes,
                groups, x + first * x_step, x_step, tokens, out + first * out_step, out_step, rows,
                bias + 4 * expert * rows if bias else 0, here, last,
            )  # fmt: skip
            tile += last - here

    return {"linear": linear}
