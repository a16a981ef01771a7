"""Elements and rows at indices that are known when a program runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import copy_element, i32_at, word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """Indices have `width` bytes, 4 or 8. A negative one counts from the end, others are clipped to the nearest."""

    @njit(nogil=True)
    def index(at: int, width: int, size: int) -> int:
        i = word(at) if width == 8 else i32_at(at)
        clipped: int = min(max(i + size if i < 0 else i, 0), size - 1)
        return clipped

    def gather(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between blocks, rows of one, bytes between them, bytes of one; indices, their number, width; out.
        An item is a row of the result"""
        x, block_step, rows, row_step, size = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        indices, count, width, out = word(a + 40), word(a + 48), word(a + 56), word(a + 64)
        for item in range(begin, end):
            block = item // count
            row = index(indices + (item - block * count) * width, width, rows)
            copy_element(out + item * size, x + block * block_step + row * row_step, size)

    def elements(a: int, begin: int, end: int, scratch: int) -> None:
        """x, its size along the axis, bytes between elements along it, bytes of one; indices, width, elements of a
        line, bytes between those of x at one index; out; axes before the last, and of each of these, the last first:
        its size, bytes between those of x at one index. An item is a line of the result"""
        x, along, step, size = word(a), word(a + 8), word(a + 16), word(a + 24)
        indices, width, n, line_step, out, axes = (
            word(a + 32), word(a + 40), word(a + 48), word(a + 56), word(a + 64), word(a + 72),
        )  # fmt: skip
        for item in range(begin, end):
            base, rest, at = x, item, a + 80
            for _ in range(axes):
                base += rest % word(at) * word(at + 8)
                rest, at = rest // word(at), at + 16
            for j in range(item * n, item * n + n):
                copy_element(out + j * size, base + index(indices + j * width, width, along) * step, size)
                base += line_step

    def vectors(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes of a row, indices, width, out, axes that a vector of indices indexes, and of each: its size, bytes
        between its rows. An item is a vector"""
        x, size, indices, width, out, axes = (
            word(a),
            word(a + 8),
            word(a + 16),
            word(a + 24),
            word(a + 32),
            word(a + 40),
        )
        for item in range(begin, end):
            row, at = x, a + 48
            for i in range(item * axes, item * axes + axes):
                row, at = row + index(indices + i * width, width, word(at)) * word(at + 8), at + 16
            copy_element(out + item * size, row, size)

    def last_row(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between sequences, rows of one, bytes between them, bytes of one, count, bytes between sequences,
        out. An item is a sequence"""
        x, step, rows, row_step, size = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        count, count_step, out = word(a + 40), word(a + 48), word(a + 56)
        for b in range(begin, end):
            row = min(max(i32_at(count + b * count_step) - 1, 0), rows - 1)
            copy_element(out + b * size, x + b * step + row * row_step, size)

    return {"gather": gather, "elements": elements, "vectors": vectors, "last_row": last_row}
