"""Rows of a table at ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.simd import floats as f
from burnish.backends.kernels.simd.dequantize import dequantize_row
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import i32_at, word
from burnish.ir.format import FORMATS

__all__ = ["functions"]


def functions(isa: Instructions, argument: str) -> dict[str, Callable[..., Any]]:
    """`rows`: an item is an id; `argument` is a format, or the float type of the table."""
    row_of = dequantize_row(FORMATS[argument], isa) if argument in FORMATS else _widen_row(argument, isa)

    def rows(a: int, begin: int, end: int, scratch: int) -> None:
        """ids, bytes of an id, bytes between ids, table, bytes between rows, rows, out, bytes between rows, elements of a
        row"""
        ids, size, ids_step, table, step, count = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32), word(a + 40)
        out, out_step, n = word(a + 48), word(a + 56), word(a + 64)
        for i in range(begin, end):
            at = ids + i * ids_step
            row = i32_at(at) if size == 4 else word(at)
            row = min(max(row + count if row < 0 else row, 0), count - 1)
            row_of(table + row * step, n, out + i * out_step, scratch)

    return {"rows": rows}


def _widen_row(element: str, isa: Instructions) -> Callable[..., Any]:
    load, store, size = f.load16(element, isa.lanes), f.store16(isa.lanes), 4 if element == "f32" else 2

    @njit(nogil=True)
    def widen(row: int, n: int, out: int, scratch: int) -> None:
        for i in range(0, n, 16):
            store(out + 4 * i, n - i, load(row + size * i, n - i))

    return widen
