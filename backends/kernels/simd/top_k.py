"""The largest elements of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import f32_at, i32_at, store_f32, store_i32, word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """`top_k`: an item is a row."""

    def top_k(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between rows, its elements, values, places, how many, bytes between their rows"""
        x, step, n, values, places, k, to_step = (
            word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32), word(a + 40), word(a + 48),
        )  # fmt: skip
        for i in range(begin, end):
            row, largest, where = x + i * step, values + i * to_step, places + i * to_step
            for j in range(n):  # into those so far, behind all that are as large
                v, at = f32_at(row + 4 * j), min(j, k)
                while at > 0:
                    other = f32_at(largest + 4 * at - 4)
                    if other != other or not (v > other or v != v):
                        break
                    if at < k:
                        store_f32(largest + 4 * at, other)
                        store_i32(where + 4 * at, i32_at(where + 4 * at - 4))
                    at -= 1
                if at < k:
                    store_f32(largest + 4 * at, v)
                    store_i32(where + 4 * at, j)

    return {"top_k": top_k}
