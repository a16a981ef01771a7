"""What follows from where tokens stand: positions, and biases by the distance from query to key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import copy_element, f32_at, i32_at, store_f32, store_i32, word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """An item of `positions` is a token, one of the others a query of a head. No past is at address 0."""
    float32 = np.float32

    def positions(a: int, begin: int, end: int, scratch: int) -> None:
        """past, bytes between sequences, tokens of a sequence, out"""
        past, step, tokens, out = word(a), word(a + 8), word(a + 16), word(a + 24)
        for item in range(begin, end):
            b = item // tokens
            first = i32_at(past + b * step) if past else 0
            store_i32(out + 4 * item, first + item - b * tokens)

    def relative_bias(a: int, begin: int, end: int, scratch: int) -> None:
        """past, bytes between sequences, heads, queries, keys, table, bytes between buckets, between heads, of a number,
        buckets of the distances 0, 1, …, the last of them for all beyond, buckets for keys behind the query (0 where
        these have none), out"""
        past, step, heads, queries, keys = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        table, row_step, head_step, size = word(a + 40), word(a + 48), word(a + 56), word(a + 64)
        buckets, most, behind, out = word(a + 72), word(a + 80), word(a + 88), word(a + 96)
        for item in range(begin, end):
            of, query = item // queries, item % queries
            b, head = of // heads, of % heads
            at = query + (i32_at(past + b * step) if past else 0)
            column, to = table + head * head_step, out + item * keys * size
            for key in range(keys):
                distance = key - at
                before = max(-distance, 0) if not behind else abs(distance)
                bucket = i32_at(buckets + 4 * min(before, most))
                if distance > 0:
                    bucket += behind
                copy_element(to + key * size, column + bucket * row_step, size)

    def alibi(a: int, begin: int, end: int, scratch: int) -> None:
        """past, bytes between sequences, heads, queries, keys, slopes, bytes between them, out"""
        past, step, heads, queries, keys = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        slopes, slope_step, out = word(a + 40), word(a + 48), word(a + 56)
        for item in range(begin, end):
            of, query = item // queries, item % queries
            b, head = of // heads, of % heads
            at = query + (i32_at(past + b * step) if past else 0)
            slope = f32_at(slopes + head * slope_step)
            for key in range(keys):
                store_f32(out + 4 * (item * keys + key), slope * float32(key - at))

    return {"positions": positions, "relative_bias": relative_bias, "alibi": alibi}
