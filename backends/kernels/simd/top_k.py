"""The largest of a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import f32_at, i32_at, store_f32, store_i32, word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """An item is a row."""

    def top_k(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between rows, elements of a row, k, values, places"""
        x, step, n, k, values, places = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32), word(a + 40)
        for item in range(begin, end):
            best, where = values + 4 * item * k, places + 4 * item * k
            for place in range(n):
                v = f32_at(x + item * step + 4 * place)
                at = min(place, k)
                while at > 0:  # behind those that are as large, and no number is larger than any
                    other = f32_at(best + 4 * at - 4)
                    if other != other or not (v > other or v != v):
                        break
                    if at < k:
                        store_f32(best + 4 * at, other)
                        store_i32(where + 4 * at, i32_at(where + 4 * at - 4))
                    at -= 1
                if at < k:
                    store_f32(best + 4 * at, v)
                    store_i32(where + 4 * at, place)

    return {"top_k": top_k}
