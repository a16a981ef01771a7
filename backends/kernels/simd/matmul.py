"""Products of stacks of matrices, whose columns are side by side in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.matmul import PANEL, ROWS
from burnish.backends.kernels.simd import floats as f
from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import copy_bytes, word

__all__ = ["functions"]



def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """`columns`: an item is ROWS rows by some columns."""
    six = 6 if isa.lanes == 16 else 4  # what the registers hold, without one that is spilled
    many, four, two, one = _sweep(isa, six), _sweep(isa, 4), _sweep(isa, 2), _sweep(isa, 1)

    @njit(nogil=True)
    def block(
        a: int, a_row: int, a_step: int, b: int, b_step: int, inputs: int, out: int, out_row: int, scratch: int,
        rows: int, columns: int,
    ) -> None:  # fmt: skip
        a, out = many(a, a_row, a_step, b, b_step, inputs, out, out_row, scratch, rows // six, columns)
        rest = rows % six
        a, out = four(a, a_row, a_step, b, b_step, inputs, out, out_row, scratch, rest // 4, columns)
        a, out = two(a, a_row, a_step, b, b_step, inputs, out, out_row, scratch, rest % 4 // 2, columns)
        one(a, a_row, a_step, b, b_step, inputs, out, out_row, scratch, rest % 2, columns)

    def columns(a: int, begin: int, end: int, scratch: int) -> None:
        """left, bytes between its rows, and between its columns, right, bytes between its rows, out, rows, columns,
        inputs, columns of an item, axes before these, and of each, the last first: its size, bytes between elements in
        left, right"""
        left, left_row, left_step, right, right_step = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        out, m, n, inputs, wide, axes = (
            word(a + 40), word(a + 48), word(a + 56), word(a + 64), word(a + 72), word(a + 80),
        )  # fmt: skip
        across, down = (n + wide - 1) // wide, (m + ROWS - 1) // ROWS
        for item in range(begin, end):
            matrix, row, column = item // (across * down), item // across % down * ROWS, item % across * wide
            x, y, rest, at = left + row * left_row, right + 4 * column, matrix, a + 88
            for _ in range(axes):
                index = rest % word(at)
                rest = rest // word(at)
                x, y, at = x + index * word(at + 8), y + index * word(at + 16), at + 24
            to = out + 4 * ((matrix * m + row) * n + column)
            rows, count = min(ROWS, m - row), min(wide, n - column)
            block(x, left_row, left_step, y, right_step, inputs, to, 4 * n, scratch, rows, count)

    return {"columns": columns}


def _sweep(isa: Instructions, rows: int) -> Callable[..., Any]:
    """sweep(a, bytes between rows, and columns, b, bytes between rows, inputs, out, bytes between rows, scratch,
    groups, columns): so many rows at once, `groups` times, by all columns; the a and out that come next.

    Some inputs after the other, the sums in `out` in between: as many as stay near; or for a few rows, which read them
    once, so many that the processor foresees what is read. Columns that are one cache line wide are laid side by side,
    for lines at distances of a power of two push each other out.
    """
    wide, few = isa.lanes * (4 if isa.lanes == 16 or rows < 4 else 2), rows < 4
    step, narrow = max(8, 4 * rows) if few else PANEL // (4 * wide), isa.lanes < 16
    whole, sixteen = _tile(isa, wide, rows), _tile(isa, 16, rows)
    load, splat, store = f.load16("f32", isa.lanes), f.splat16(isa.lanes), f.store16(isa.lanes)
    zero, fma = f.constant(isa.lanes, 0.0), r.fma

    @njit(nogil=True)
    def last(a: int, a_step: int, b: int, b_step: int, inputs: int, out: int, count: int) -> None:
        total = zero()
        for _ in range(inputs):
            total = fma(load(b, count), splat(a), total)
            a, b = a + a_step, b + b_step
        store(out, count, total)

    @njit(nogil=True)
    def sweep(
        a: int, a_row: int, a_step: int, b: int, b_step: int, inputs: int, out: int, out_row: int, scratch: int,
        groups: int, columns: int,
    ) -> Any:  # fmt: skip
        for first in range(0, max(1, inputs) if groups else 0, step):
            column, count = 0, min(step, inputs - first)
            while columns - column >= 16:
                is_wide = columns - column >= wide
                at, here, here_step = a + first * a_step, b + 4 * column + first * b_step, b_step
                to = out + 4 * column
                if narrow and is_wide and groups > 2:
                    for k in range(count):
                        copy_bytes(scratch + k * 4 * wide, here + k * b_step, 4 * wide)
                    here, here_step = scratch, 4 * wide
                for _ in range(groups):
                    if is_wide:
                        whole(at, a_row, a_step, here, here_step, first, count, to, out_row)
                    else:
                        sixteen(at, a_row, a_step, here, here_step, first, count, to, out_row)
                    at, to = at + rows * a_row, to + rows * out_row
                column += wide if is_wide else 16
        column = columns & -16
        if column < columns:
            for i in range(groups * rows):
                to = out + 4 * column + i * out_row
                last(a + i * a_row, a_step, b + 4 * column, b_step, inputs, to, columns - column)
        return a + groups * rows * a_row, out + groups * rows * out_row

    return sweep


def _tile(isa: Instructions, columns: int, rows: int) -> Callable[..., Any]:
    """tile(a, bytes between rows, and columns, b, bytes between rows, the first input, how many, out, bytes between
    rows): where they are not the first, sums go on as they stand in `out`."""
    registers, register = columns // isa.lanes, 4 * isa.lanes
    load, splat = r.load("f32", isa.lanes, registers), r.splat("f32", isa.lanes, rows)
    zeros, load_block = r.zeros("f32", isa.lanes, registers, rows), r.load_block("f32", isa.lanes, registers, rows)
    fma, store = r.fma, r.store

    @njit(nogil=True)
    def tile(
        a: int, a_row: int, a_step: int, b: int, b_step: int, first: int, inputs: int, out: int, out_row: int
    ) -> None:
        total = zeros()
        if first:
            total = load_block(out, register, out_row)
        for _ in range(inputs):
            total = fma(load(b, register), splat(a, a_row), total)
            a, b = a + a_step, b + b_step
        store(out, register, out_row, total)

    return tile
