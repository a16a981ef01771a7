"""Mixtures of experts on floats: the items of their products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burnish.backends.kernels.float_linear import BLOCK_ROWS, BLOCK_TOKENS, MANY
from burnish.backends.kernels.simd.choices import nearest, share
from burnish.backends.kernels.simd.float_product import products
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import i32_at, word
from burnish.backends.kernels.stored import kinds

__all__ = ["arguments", "functions"]


def arguments() -> list[str]:
    """What weights there is code for are stored in."""
    return kinds()


def functions(isa: Instructions, argument: str) -> dict[str, Callable[..., Any]]:
    """`multiply`, by weights stored in `argument`; an item is a block of rows of the expert of a group."""
    few, many = products(argument, isa)

    def multiply(a: int, begin: int, end: int, scratch: int) -> None:
        """experts of groups, where each group starts, groups, experts, w, bytes between rows, rows of an expert, x,
        bytes between rows, inputs, out, bytes between rows, bias or 0"""
        chosen, starts, most, experts = word(a), word(a + 8), word(a + 16), word(a + 24)
        w, w_step, rows, x, x_step = word(a + 32), word(a + 40), word(a + 48), word(a + 56), word(a + 64)
        inputs, out, out_step, bias = word(a + 72), word(a + 80), word(a + 88), word(a + 96)
        blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
        for block in range(share(starts, most, blocks, begin), share(starts, most, blocks, end)):
            group, row = block // blocks, block % blocks * BLOCK_ROWS
            expert = nearest(chosen + 4 * group, experts)
            first, stop = i32_at(starts + 4 * group), i32_at(starts + 4 * group + 4)
            at, count = w + (expert * rows + row) * w_step, min(BLOCK_ROWS, rows - row)
            added = bias + 4 * (expert * rows + row) if bias else 0
            for t in range(first, stop, BLOCK_TOKENS):
                tokens = min(BLOCK_TOKENS, stop - t)
                xs, to = x + t * x_step, out + t * out_step + 4 * row
                if tokens < MANY:
                    few(at, w_step, count, xs, x_step, tokens, inputs, to, out_step, added, scratch)
                else:
                    many(at, w_step, count, xs, x_step, tokens, inputs, to, out_step, added, scratch)

    return {"multiply": multiply}
