"""Rounding activations to int8_32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burnish.backends.kernels.simd import floats as f
from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import store_i32, word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """`int8_32`: rows of f32 to blocks of 32 inputs, see `tile.BLOCK`."""
    load, store_first, store_codes = f.load16("f32", isa.lanes), f.store_first, f.store_codes
    one, per_code, most = (f.constant(isa.lanes, v) for v in (1.0, 1 / 127, 127.0))
    absolute, larger, reduce_max, rint, divide, multiply = (
        f.absolute, f.larger, f.reduce_max, f.rint, f.divide, r.multiply,
    )  # fmt: skip
    where_zero, reduce_sum, smaller, negate = f.where_zero, f.reduce_add, f.smaller, f.negate
    first_as_int = f.first_as_int

    def int8_32(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between rows, out, bytes between rows, elements of a row"""
        x, x_step, out, out_step, n = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        for i in range(begin, end):
            at, to = x + i * x_step, out + i * out_step
            for _ in range(0, n, 32):
                left, right = load(at, 16), load(at + 64, 16)
                scale = multiply(reduce_max(larger(absolute(left), absolute(right))), per_code())
                divisor = where_zero(scale, one())
                left, right = rint(divide(left, divisor)), rint(divide(right, divisor))
                left = larger(smaller(left, most()), negate(most()))
                right = larger(smaller(right, most()), negate(most()))
                store_first(to, scale)
                former, latter = first_as_int(reduce_sum(left)), first_as_int(reduce_sum(right))
                store_i32(to + 4, (former & 0xFFFF) | (latter << 16))
                store_codes(to + 8, left)
                store_codes(to + 24, right)
                at, to = at + 128, to + 40

    return {"int8_32": int8_32}
