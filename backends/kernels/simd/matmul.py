"""Products of stacks of matrices, whose columns are side by side in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.matmul import COLUMNS, ROWS
from burnish.backends.kernels.simd import floats as f
from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import word

__all__ = ["functions"]

AT_ONCE = 6  # rows of a tile: with 4 registers of columns, or 2 where there are half as many


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """`columns`: an item is ROWS rows by COLUMNS columns."""
    lanes = isa.lanes
    wide = lanes * (4 if lanes == 16 else 2)
    whole, whole_row = _tile(isa, wide, AT_ONCE), _tile(isa, wide, 1)
    sixteen, sixteen_row = _tile(isa, 16, AT_ONCE), _tile(isa, 16, 1)
    load, splat, store, zero, fma = (
        f.load16("f32", lanes),
        f.splat16(lanes),
        f.store16(lanes),
        f.constant(lanes, 0.0),
        r.fma,
    )

    @njit(nogil=True)
    def last(a: int, a_step: int, b: int, b_step: int, inputs: int, out: int, count: int) -> None:
        total = zero()
        for _ in range(inputs):
            total = fma(load(b, count), splat(a), total)
            a, b = a + a_step, b + b_step
        store(out, count, total)

    @njit(nogil=True)
    def block(
        a: int,
        a_row: int,
        a_step: int,
        b: int,
        b_step: int,
        inputs: int,
        out: int,
        out_row: int,
        rows: int,
        columns: int,
    ) -> None:
        column = 0
        while columns - column >= 16:
            here, to, row = b + 4 * column, out + 4 * column, 0
            is_wide = columns - column >= wide
            while rows - row >= AT_ONCE:
                at, there = a + row * a_row, to + row * out_row
                if is_wide:
                    whole(at, a_row, a_step, here, b_step, inputs, there, out_row)
                else:
                    sixteen(at, a_row, a_step, here, b_step, inputs, there, out_row)
                row += AT_ONCE
            for i in range(row, rows):
                if is_wide:
                    whole_row(a + i * a_row, a_row, a_step, here, b_step, inputs, to + i * out_row, out_row)
                else:
                    sixteen_row(a + i * a_row, a_row, a_step, here, b_step, inputs, to + i * out_row, out_row)
            column += wide if is_wide else 16
        if column < columns:
            for i in range(rows):
                to = out + 4 * column + i * out_row
                last(a + i * a_row, a_step, b + 4 * column, b_step, inputs, to, columns - column)

    def columns(a: int, begin: int, end: int, scratch: int) -> None:
        """left, bytes between its rows, and between its columns, right, bytes between its rows, out, rows, columns,
        inputs, axes before these; of each, the last first: its size, bytes between its elements in left and right"""
        left, left_row, left_step, right, right_step = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        out, m, n, inputs, axes = word(a + 40), word(a + 48), word(a + 56), word(a + 64), word(a + 72)
        across, down = (n + COLUMNS - 1) // COLUMNS, (m + ROWS - 1) // ROWS
        for item in range(begin, end):
            matrix, row, column = item // (across * down), item // across % down * ROWS, item % across * COLUMNS
            x, y, rest, at = left + row * left_row, right + 4 * column, matrix, a + 80
            for _ in range(axes):
                index = rest % word(at)
                rest = rest // word(at)
                x, y, at = x + index * word(at + 8), y + index * word(at + 16), at + 24
            to = out + 4 * ((matrix * m + row) * n + column)
            rows, count = min(ROWS, m - row), min(COLUMNS, n - column)
            block(x, left_row, left_step, y, right_step, inputs, to, 4 * n, rows, count)

    return {"columns": columns}


def _tile(isa: Instructions, columns: int, rows: int) -> Callable[..., Any]:
    """tile(a, bytes between rows, and columns, b, bytes between rows, inputs, out, bytes between rows)."""
    registers, register = columns // isa.lanes, 4 * isa.lanes
    load, splat = r.load("f32", isa.lanes, registers), r.splat("f32", isa.lanes, rows)
    zeros, fma, store = r.zeros("f32", isa.lanes, registers, rows), r.fma, r.store

    @njit(nogil=True)
    def tile(a: int, a_row: int, a_step: int, b: int, b_step: int, inputs: int, out: int, out_row: int) -> None:
        total = zeros()
        for _ in range(inputs):
            total = fma(load(b, register), splat(a, a_row), total)
            a, b = a + a_step, b + b_step
        store(out, register, out_row, total)

    return tile
