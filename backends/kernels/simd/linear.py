"""Linear on quantized weights and int8 activations: the loops around a tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.tile import affine_tile
from burnish.backends.kernels.simd.words import f32_at, store_f32, word
from burnish.ir.format import FORMATS

__all__ = ["arguments", "functions"]


def arguments() -> list[str]:
    """The formats that there is code for."""
    from burnish.backends.kernels.linear import why_unread

    return [name for name, format in FORMATS.items() if why_unread(format) is None]


def functions(isa: Instructions, argument: str) -> dict[str, Callable[..., Any]]:
    """`linear`: out[tokens, rows] = x[tokens, K] @ w[rows, K].T + bias; an item is a tile of rows."""
    format, lanes = FORMATS[argument], isa.lanes
    wide = affine_tile(format, isa, 2, 4, 1024)
    narrow, pair, one = (affine_tile(format, isa, 1, n, ahead) for n, ahead in ((4, 1024), (2, 2048), (1, 2048)))

    @njit(nogil=True)
    def add_bias(out: int, step: int, tokens: int, bias: int, rows: int) -> None:
        for t in range(tokens):
            for i in range(rows):
                at = out + t * step + 4 * i
                store_f32(at, f32_at(at) + f32_at(bias + 4 * i))

    @njit(nogil=True)
    def copy_rows(scratch: int, out: int, step: int, tokens: int, rows: int) -> None:
        for t in range(tokens):
            for i in range(rows):
                store_f32(out + t * step + 4 * i, f32_at(scratch + 4 * (t * lanes + i)))

    def linear(a: int, begin: int, end: int, scratch: int) -> None:
        """codes, bytes of a tile's codes, scales, bytes of a tile's scales, groups, x, bytes of a token, tokens, out,
        bytes of a token, rows, bias or 0"""
        codes, code_stride, scales, scale_stride, groups = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        x, x_step, tokens = word(a + 40), word(a + 48), word(a + 56)
        out, out_step, rows, bias = word(a + 64), word(a + 72), word(a + 80), word(a + 88)
        tile = begin
        while tile < end:
            last = rows - tile * lanes < lanes
            both = tile + 2 <= end and rows - tile * lanes >= 2 * lanes and tokens >= 4
            c, s = codes + tile * code_stride, scales + tile * scale_stride
            to = scratch if last else out + 4 * lanes * tile
            step = 4 * lanes if last else out_step
            t = 0
            while t < tokens:
                at, o = x + t * x_step, to + t * step
                if both and tokens - t >= 4:
                    wide(c, code_stride, s, scale_stride, at, x_step, groups, o, 4 * lanes, step)
                    t += 4
                elif tokens - t >= 4:
                    narrow(c, code_stride, s, scale_stride, at, x_step, groups, o, 4 * lanes, step)
                    t += 4
                elif tokens - t >= 2:
                    for i in range(2 if both else 1):
                        pair(
                            c + i * code_stride, code_stride, s + i * scale_stride, scale_stride, at, x_step, groups,
                            o + 4 * lanes * i, 4 * lanes, step,
                        )  # fmt: skip
                    t += 2
                else:
                    for i in range(2 if both else 1):
                        one(
                            c + i * code_stride, code_stride, s + i * scale_stride, scale_stride, at, x_step, groups,
                            o + 4 * lanes * i, 4 * lanes, step,
                        )  # fmt: skip
                    t += 1
            done = 2 if both else 1
            if last:
                copy_rows(scratch, out + 4 * lanes * tile, out_step, tokens, rows - tile * lanes)
            if bias:
                count = min(done * lanes, rows - tile * lanes)
                add_bias(out + 4 * lanes * tile, out_step, tokens, bias + 4 * lanes * tile, count)
            tile += done

    return {"linear": linear}
