"""Mixtures of experts: choices sorted by expert, and the items of their products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.float_linear import BLOCK_ROWS, BLOCK_TOKENS, SCRATCH
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import call, copy_bytes, i32_at, store_i32, store_word, word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """`sort`, `gather`, `multiply`, `scatter`, one after the other."""

    @njit(nogil=True)
    def clipped(chosen: int, i: int, experts: int) -> Any:
        return min(max(i32_at(chosen + 4 * i), 0), experts - 1)

    def sort(a: int, begin: int, end: int, scratch: int) -> None:
        """choices, their number, experts; to: i32[experts + 1], where in the order an expert's choices begin;
        i32[choices], their order; i32, how many experts are chosen, and these"""
        chosen, count, experts, starts, order, found = (
            word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32), word(a + 40),
        )  # fmt: skip
        for e in range(experts + 1):
            store_i32(starts + 4 * e, 0)
        for i in range(count):
            at = starts + 4 * clipped(chosen, i, experts)
            store_i32(at, i32_at(at) + 1)
        total, used = 0, 0
        for e in range(experts):
            mine = i32_at(starts + 4 * e)
            if mine:
                used += 1
                store_i32(found + 4 * used, e)
            total += mine
            store_i32(starts + 4 * e, total)
        store_i32(starts + 4 * experts, total)
        store_i32(found, used)
        for i in range(count - 1, -1, -1):  # from the end of each expert's down to its start
            at = starts + 4 * clipped(chosen, i, experts)
            store_i32(at, i32_at(at) - 1)
            store_i32(order + 4 * i32_at(at), i)

    def gather(a: int, begin: int, end: int, scratch: int) -> None:
        """order, x, bytes between rows, choices that share a row, inputs, to, bytes between rows"""
        order, x, x_step, shared, inputs, to, step = (
            word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32), word(a + 40), word(a + 48),
        )  # fmt: skip
        for i in range(begin, end):
            copy_bytes(to + i * step, x + i32_at(order + 4 * i) // shared * x_step, 4 * inputs)

    def multiply(a: int, begin: int, end: int, scratch: int) -> None:
        """experts that are chosen, where each one's begin, w, bytes between rows, rows of an expert, x in order, bytes
        between rows, inputs, out in order, bytes between rows, bias or 0, addresses of `float_linear` for these weights,
        and of `float_rows`"""
        found, starts, w, w_step, rows = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        x, x_step, inputs, out, out_step, bias = (
            word(a + 40), word(a + 48), word(a + 56), word(a + 64), word(a + 72), word(a + 80),
        )  # fmt: skip
        float_linear, float_rows, given = word(a + 88), word(a + 96), scratch + SCRATCH
        blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
        for item in range(begin, min(end, i32_at(found) * blocks)):
            expert, row = i32_at(found + 4 + 4 * (item // blocks)), item % blocks * BLOCK_ROWS
            first, stop = i32_at(starts + 4 * expert), i32_at(starts + 4 * expert + 4)
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

    def scatter(a: int, begin: int, end: int, scratch: int) -> None:
        """order, rows in order, bytes of one, to"""
        order, made, size, out = word(a), word(a + 8), word(a + 16), word(a + 24)
        for i in range(begin, end):
            copy_bytes(out + i32_at(order + 4 * i) * size, made + i * size, size)

    return {"sort": sort, "gather": gather, "multiply": multiply, "scatter": scatter}
