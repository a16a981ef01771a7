"""Mixtures of experts on floats: the items of their products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burnish.backends.kernels.float_linear import BLOCK_ROWS, BLOCK_TOKENS, SCRATCH
from burnish.backends.kernels.simd.choices import nearest, share
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import call, i32_at, store_word, word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """`multiply`; an item is a block of rows of the expert of a group, whose product is a linear's."""

    def multiply(a: int, begin: int, end: int, scratch: int) -> None:
        """experts of groups, where each group starts, groups, experts, w, bytes between rows, rows of an expert, x,
        bytes between rows, inputs, out, bytes between rows, bias or 0, addresses of `float_linear` for these weights
        and of `float_rows`"""
        chosen, starts, most, experts = word(a), word(a + 8), word(a + 16), word(a + 24)
        w, w_step, rows, x, x_step = word(a + 32), word(a + 40), word(a + 48), word(a + 56), word(a + 64)
        inputs, out, out_step, bias = word(a + 72), word(a + 80), word(a + 88), word(a + 96)
        float_linear, float_rows, given = word(a + 104), word(a + 112), scratch + SCRATCH
        blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
        for block in range(share(starts, most, blocks, begin), share(starts, most, blocks, end)):
            group, row = block // blocks, block % blocks * BLOCK_ROWS
            expert = nearest(chosen + 4 * group, experts)
            first, stop = i32_at(starts + 4 * group), i32_at(starts + 4 * group + 4)
            store_word(given, w + (expert * rows + row) * w_step)
            store_word(given + 8, w_step)
            store_word(given + 16, min(BLOCK_ROWS, rows - row))
            store_word(given + 24, x + first * x_step)
            store_word(given + 32, x_step)
            store_word(given + 40, stop - first)
            store_word(given + 48, inputs)
            store_word(given + 56, out + first * out_step + 4 * row)
            store_word(given + 64, out_step)
            store_word(given + 72, bias + 4 * (expert * rows + row) if bias else 0)
            store_word(given + 80, BLOCK_ROWS)
            store_word(given + 88, BLOCK_TOKENS)
            store_word(given + 96, float_rows)
            call(float_linear, given, 0, (stop - first + BLOCK_TOKENS - 1) // BLOCK_TOKENS, scratch)

    return {"multiply": multiply}
