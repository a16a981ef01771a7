"""Reductions of rows: sums, means, largest elements, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from burnish.backends.kernels.simd import floats as f
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.registers import Intrinsic
from burnish.backends.kernels.simd.words import word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """softmax; and row.NAME and columns.NAME of each reduction: of a row, or of all rows of an item, by columns.

    A sum of rows has sixteen parts (see `floats`), one of columns is in order.
    """
    made = {"softmax": _softmax(isa)}
    for name, join, reduce, start in [
        ("reduce_sum", f.fadd, f.reduce_add, 0.0),
        ("reduce_max", f.maximum, f.reduce_maximum, -math.inf),
        ("reduce_max_i32", f.larger_i32, f.reduce_max_i32, -0.0),  # whose bits are those of the least i32
    ]:
        made[f"row.{name}"] = _rows(isa, join, reduce, start)
        made[f"columns.{name}"] = _columns(isa, join, start)
    return made


def _rows(isa: Instructions, join: Intrinsic, reduce: Intrinsic, start: float) -> Callable[..., Any]:
    load, store, splat = f.load16("f32", isa.lanes), f.store16(isa.lanes), f.splat16(isa.lanes)
    begun, first, divide, is_sum = f.constant(isa.lanes, start), f.first(start), f.divide, join is f.fadd

    def rows(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between items, out, the same, elements of an item, what a sum is divided by"""
        x, x_step, out, out_step, n = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        whole, rest = n & -16, n & 15
        for i in range(begin, end):
            at, total, done = x + i * x_step, begun(), 0
            if not is_sum:  # in any order: by four, for one would wait for the last
                done = n & -64
                total2, total3, total4 = begun(), begun(), begun()
                for j in range(0, done, 64):
                    total, total2 = join(total, load(at + 4 * j, 16)), join(total2, load(at + 4 * j + 64, 16))
                    total3, total4 = (
                        join(total3, load(at + 4 * j + 128, 16)), join(total4, load(at + 4 * j + 192, 16)),
                    )  # fmt: skip
                total = join(join(total, total2), join(total3, total4))
            for j in range(done, whole, 16):
                total = join(total, load(at + 4 * j, 16))
            if rest:
                total = join(total, first(load(at + 4 * whole, rest), rest))
            total = reduce(total)
            store(out + i * out_step, 1, divide(total, splat(a + 40)) if is_sum else total)

    return rows


def _columns(isa: Instructions, join: Intrinsic, start: float) -> Callable[..., Any]:
    load, store, splat = f.load16("f32", isa.lanes), f.store16(isa.lanes), f.splat16(isa.lanes)
    begun, divide, is_sum = f.constant(isa.lanes, start), f.divide, join is f.fadd

    def columns(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between items, out, the same, rows of an item, what a sum is divided by, elements of a row,
        bytes between rows"""
        x, x_step, out, out_step, rows = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        n, row = word(a + 48), word(a + 56)
        for i in range(begin, end):
            for j in range(0, n, 16):
                at, total = x + i * x_step + 4 * j, begun()
                for k in range(rows):
                    total = join(total, load(at + k * row, n - j))
                store(out + i * out_step + 4 * j, n - j, divide(total, splat(a + 40)) if is_sum else total)

    return columns


def _softmax(isa: Instructions) -> Callable[..., Any]:
    load, store = f.load16("f32", isa.lanes), f.store16(isa.lanes)
    zero, lowest, first_or_lowest, first = (
        f.constant(isa.lanes, 0.0), f.constant(isa.lanes, -math.inf), f.first(-math.inf), f.first(0.0),
    )  # fmt: skip
    larger, reduce_max, reduce_add, exp = f.larger, f.reduce_max, f.reduce_add, f.exp
    fsub, fadd, divide = f.fsub, f.fadd, f.divide

    def softmax(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between items, and between rows of one, out, the same, rows of an item, elements of a row"""
        x, x_item, x_row, out, out_item, out_row = (
            word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32), word(a + 40),
        )  # fmt: skip
        rows, n = word(a + 48), word(a + 56)
        whole, rest = n & -16, n & 15
        for i in range(begin, end):
            for k in range(rows):
                at, to = x + i * x_item + k * x_row, out + i * out_item + k * out_row
                top, total = lowest(), zero()
                for j in range(0, whole, 16):
                    top = larger(load(at + 4 * j, 16), top)
                if rest:
                    top = larger(first_or_lowest(load(at + 4 * whole, rest), rest), top)
                top = reduce_max(top)
                for j in range(0, whole, 16):
                    e = exp(fsub(load(at + 4 * j, 16), top))
                    store(to + 4 * j, 16, e)
                    total = fadd(total, e)
                if rest:
                    e = first(exp(fsub(load(at + 4 * whole, rest), top)), rest)
                    store(to + 4 * whole, rest, e)
                    total = fadd(total, e)
                total = reduce_add(total)
                for j in range(0, whole, 16):
                    store(to + 4 * j, 16, divide(load(to + 4 * j, 16), total))
                if rest:
                    store(to + 4 * whole, rest, divide(load(to + 4 * whole, rest), total))

    return softmax
