"""Choices of experts, sorted by expert; the rows that they multiply, gathered in that order, and put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import clear_bytes, copy_bytes, i32_at, store_i32, word

__all__ = ["functions", "nearest", "share"]

READING = 2  # reading an expert's weights takes as long as so many rows


@njit(nogil=True)
def nearest(choice: int, experts: int) -> Any:
    """The expert at an address, or the nearest that there is."""
    return min(max(i32_at(choice), 0), experts - 1)


@njit(nogil=True)
def share(starts: int, most: int, parts: int, item: int) -> Any:
    """Where an item begins, of `most` groups in `parts` parts each, of which there are as many items: the number of a
    part of those that have rows. Items are equal shares of the time that the parts take.
    """
    count, used = i32_at(starts + 4 * most), most
    while used > 0 and i32_at(starts + 4 * used - 4) == count:
        used -= 1
    time = item * (count + READING * used) // most
    for group in range(used):
        of_part = i32_at(starts + 4 * group + 4) - i32_at(starts + 4 * group) + READING
        if time < of_part * parts:
            return group * parts + time // of_part
        time -= of_part * parts
    return used * parts


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """`sort`, `gather`, `scatter`."""

    def sort(a: int, begin: int, end: int, scratch: int) -> None:
        """choices, their number, experts, groups; to: i32[groups], the expert of each; i32[groups + 1], where each
        starts; i32[choices], their order. Scratch: i32[experts]"""
        chosen, count, experts, most, found = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        starts, ends = found + 4 * most, scratch
        order = starts + 4 * most + 4
        clear_bytes(ends, 4 * experts)
        for i in range(count):
            at = ends + 4 * nearest(chosen + 4 * i, experts)
            store_i32(at, i32_at(at) + 1)
        total, group = 0, 0
        for e in range(experts):
            mine = i32_at(ends + 4 * e)
            if mine:
                store_i32(found + 4 * group, e)
                store_i32(starts + 4 * group, total)
                group += 1
            total += mine
            store_i32(ends + 4 * e, total)
        for g in range(group, most + 1):
            store_i32(starts + 4 * g, total)
        for i in range(count - 1, -1, -1):  # from the end of each expert's down to its start
            at = ends + 4 * nearest(chosen + 4 * i, experts)
            store_i32(at, i32_at(at) - 1)
            store_i32(order + 4 * i32_at(at), i)

    def gather(a: int, begin: int, end: int, scratch: int) -> None:
        """order, x, bytes between rows, choices that share a row, bytes of one, to, bytes between rows"""
        order, x, x_step, shared, size, to, step = (
            word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32), word(a + 40), word(a + 48),
        )  # fmt: skip
        for i in range(begin, end):
            copy_bytes(to + i * step, x + i32_at(order + 4 * i) // shared * x_step, size)

    def scatter(a: int, begin: int, end: int, scratch: int) -> None:
        """order, rows in order, bytes of one, to"""
        order, made, size, out = word(a), word(a + 8), word(a + 16), word(a + 24)
        for i in range(begin, end):
            copy_bytes(out + i32_at(order + 4 * i) * size, made + i * size, size)

    return {"sort": sort, "gather": gather, "scatter": scatter}
