"""Functions of rows: norms, and what works element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burnish.backends.kernels.simd import floats as f
from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """By the names of the ops."""
    load, store, splat = f.load16("f32", isa.lanes), f.store16(isa.lanes), f.splat16(isa.lanes)
    zero, one = f.constant(isa.lanes, 0.0), f.constant(isa.lanes, 1.0)
    fma, fadd, multiply, divide, sqrt = r.fma, f.fadd, r.multiply, f.divide, f.sqrt
    reduce_add, sigmoid = f.reduce_add, f.sigmoid

    def rms_norm(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between rows, weight, out, bytes between rows, elements of a row, 1 / that, eps, what is added to the weight"""
        x, x_step, weight, out, out_step, n = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32), word(a + 40)
        for i in range(begin, end):
            at, to = x + i * x_step, out + i * out_step
            total = zero()
            for j in range(0, n, 16):
                v = load(at + 4 * j, n - j)
                total = fma(v, v, total)
            mean = fma(reduce_add(total), splat(a + 48), splat(a + 56))
            factor = divide(one(), sqrt(mean))
            for j in range(0, n, 16):
                v = multiply(load(at + 4 * j, n - j), factor)
                store(to + 4 * j, n - j, multiply(v, fadd(load(weight + 4 * j, n - j), splat(a + 64))))

    def add(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between rows, y, the same, out, the same, elements of a row"""
        x, x_step, y, y_step = word(a), word(a + 8), word(a + 16), word(a + 24)
        out, out_step, n = word(a + 32), word(a + 40), word(a + 48)
        for i in range(begin, end):
            for j in range(0, n, 16):
                left, right = load(x + i * x_step + 4 * j, n - j), load(y + i * y_step + 4 * j, n - j)
                store(out + i * out_step + 4 * j, n - j, fadd(left, right))

    def mul(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between rows, y, the same, out, the same, elements of a row"""
        x, x_step, y, y_step = word(a), word(a + 8), word(a + 16), word(a + 24)
        out, out_step, n = word(a + 32), word(a + 40), word(a + 48)
        for i in range(begin, end):
            for j in range(0, n, 16):
                left, right = load(x + i * x_step + 4 * j, n - j), load(y + i * y_step + 4 * j, n - j)
                store(out + i * out_step + 4 * j, n - j, multiply(left, right))

    def silu(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between rows, out, the same, elements of a row"""
        x, x_step, out, out_step, n = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        for i in range(begin, end):
            for j in range(0, n, 16):
                v = load(x + i * x_step + 4 * j, n - j)
                store(out + i * out_step + 4 * j, n - j, multiply(v, sigmoid(v)))

    return {"rms_norm": rms_norm, "add": add, "mul": mul, "silu": silu}
