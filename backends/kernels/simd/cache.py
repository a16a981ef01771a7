"""Rows of tokens written into the states that keep them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import clear_bytes, copy_bytes, i32_at, word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """An item of `update` and of `ring` is a token, one of `before` a row that stood in a ring before the tokens."""

    def update(a: int, begin: int, end: int, scratch: int) -> None:
        """cache, bytes between sequences, between rows, between parts of a row; new, bytes between sequences, between
        tokens, between parts; past, bytes between sequences; tokens and rows of a sequence, parts of a row, bytes of
        one"""
        cache, cache_step, row_step, to_step = word(a), word(a + 8), word(a + 16), word(a + 24)
        new, new_step, token_step, from_step = word(a + 32), word(a + 40), word(a + 48), word(a + 56)
        past, past_step, tokens, rows = word(a + 64), word(a + 72), word(a + 80), word(a + 88)
        parts, size = word(a + 96), word(a + 104)
        for item in range(begin, end):
            b = item // tokens
            i = item - b * tokens
            row = i32_at(past + b * past_step) + i
            if 0 <= row < rows:
                to, at = cache + b * cache_step + row * row_step, new + b * new_step + i * token_step
                for _ in range(parts):
                    copy_bytes(to, at, size)
                    to, at = to + to_step, at + from_step

    def ring(a: int, begin: int, end: int, scratch: int) -> None:
        """ring, bytes between sequences; new, bytes between sequences, between tokens; past, bytes between sequences;
        count, the same; tokens of a sequence, rows of a ring, bytes of one; where the rows of tokens are saved, or 0"""
        ring, ring_step, new, new_step, token_step = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        past, past_step, count, count_step = word(a + 40), word(a + 48), word(a + 56), word(a + 64)
        tokens, rows, size, saved = word(a + 72), word(a + 80), word(a + 88), word(a + 96)
        for item in range(begin, end):
            b = item // tokens
            i = item - b * tokens
            real = min(i32_at(count + b * count_step), tokens)
            row = ring + b * ring_step + (i32_at(past + b * past_step) + i) % rows * size
            if saved:
                copy_bytes(saved + item * size, row, size)
            if real - rows <= i < real:
                copy_bytes(row, new + b * new_step + i * token_step, size)

    def before(a: int, begin: int, end: int, scratch: int) -> None:
        """ring, bytes between sequences; past, bytes between sequences; rows of a ring, bytes of one; rows that were
        saved, how many of a sequence; out"""
        ring, ring_step, past, past_step = word(a), word(a + 8), word(a + 16), word(a + 24)
        rows, size, first, saved, out = word(a + 32), word(a + 40), word(a + 48), word(a + 56), word(a + 64)
        for item in range(begin, end):
            b = item // rows
            j, now = item - b * rows, i32_at(past + b * past_step)
            if now + j < rows:
                clear_bytes(out + item * size, size)
            elif j < saved:
                copy_bytes(out + item * size, first + (b * saved + j) * size, size)
            else:
                copy_bytes(out + item * size, ring + b * ring_step + (now + j) % rows * size, size)

    return {"update": update, "ring": ring, "before": before}
