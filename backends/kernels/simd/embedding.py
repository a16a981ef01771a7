"""Rows of a table at ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.stored import read_row
from burnish.backends.kernels.simd.words import i32_at, word
from burnish.backends.kernels.stored import kinds

__all__ = ["arguments", "functions"]


def arguments() -> list[str]:
    """What weights there is code for are stored in."""
    return kinds()


def functions(isa: Instructions, argument: str) -> dict[str, Callable[..., Any]]:
    """`look_up`: an item is an id; `argument` is a format, or the float type of the table."""
    row_of = read_row(argument, isa)

    def look_up(a: int, begin: int, end: int, scratch: int) -> None:
        """ids, bytes of an id, bytes between ids, table, bytes between rows, rows, out, bytes between rows, their
        elements"""
        ids, size, ids_step, table, step, count = (
            word(a),
            word(a + 8),
            word(a + 16),
            word(a + 24),
            word(a + 32),
            word(a + 40),
        )
        out, out_step, n = word(a + 48), word(a + 56), word(a + 64)
        for i in range(begin, end):
            at = ids + i * ids_step
            row = i32_at(at) if size == 4 else word(at)
            row = min(max(row + count if row < 0 else row, 0), count - 1)
            row_of(table + row * step, n, 0, n, out + i * out_step, scratch)

    return {"look_up": look_up}
