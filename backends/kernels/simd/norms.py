"""Norms of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burnish.backends.kernels.simd import floats as f
from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import word

__all__ = ["arguments", "functions"]


def arguments() -> list[str]:
    """The types of weights that there is code for."""
    return ["f32", "f16", "bf16"]


def functions(isa: Instructions, element: str) -> dict[str, Callable[..., Any]]:
    """rms_norm and layer_norm, with weights of that element type. An item is some rows."""
    size = 4 if element == "f32" else 2
    return {"rms_norm": _rms_norm(isa, element, size), "layer_norm": _layer_norm(isa, element, size)}


def _rms_norm(isa: Instructions, element: str, size: int) -> Callable[..., Any]:
    load, weights, store, splat = (
        f.load16("f32", isa.lanes), f.load16(element, isa.lanes), f.store16(isa.lanes), f.splat16(isa.lanes),
    )  # fmt: skip
    zero, one, fma, fadd, multiply = f.constant(isa.lanes, 0.0), f.constant(isa.lanes, 1.0), r.fma, f.fadd, r.multiply
    divide, sqrt, reduce_add = f.divide, f.sqrt, f.reduce_add

    def rms_norm(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between items, and between rows of one, out, the same, rows of an item, elements of a row, 1 / that,
        weight, eps, what is added to the weight"""
        x, x_item, x_row, out, out_item, out_row = (
            word(a),
            word(a + 8),
            word(a + 16),
            word(a + 24),
            word(a + 32),
            word(a + 40),
        )
        rows, n, weight = word(a + 48), word(a + 56), word(a + 72)
        whole, rest = n & -16, n & 15
        for i in range(begin, end):
            for k in range(rows):
                at, to = x + i * x_item + k * x_row, out + i * out_item + k * out_row
                total = zero()
                for j in range(0, whole, 16):
                    v = load(at + 4 * j, 16)
                    total = fma(v, v, total)
                if rest:
                    v = load(at + 4 * whole, rest)
                    total = fma(v, v, total)
                factor = divide(one(), sqrt(fma(reduce_add(total), splat(a + 64), splat(a + 80))))
                offset = splat(a + 88)
                for j in range(0, whole, 16):
                    w = fadd(weights(weight + size * j, 16), offset)
                    store(to + 4 * j, 16, multiply(multiply(load(at + 4 * j, 16), factor), w))
                if rest:
                    w = fadd(weights(weight + size * whole, rest), offset)
                    store(to + 4 * whole, rest, multiply(multiply(load(at + 4 * whole, rest), factor), w))

    return rms_norm


def _layer_norm(isa: Instructions, element: str, size: int) -> Callable[..., Any]:
    load, weights, store, splat = (
        f.load16("f32", isa.lanes), f.load16(element, isa.lanes), f.store16(isa.lanes), f.splat16(isa.lanes),
    )  # fmt: skip
    zero, one, fma, fadd, multiply = f.constant(isa.lanes, 0.0), f.constant(isa.lanes, 1.0), r.fma, f.fadd, r.multiply
    divide, sqrt, reduce_add, fsub, first = f.divide, f.sqrt, f.reduce_add, f.fsub, f.first(0.0)

    def layer_norm(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between items, and between rows of one, out, the same, rows of an item, elements of a row, 1 / that,
        weight, eps, bias or 0"""
        x, x_item, x_row, out, out_item, out_row = (
            word(a),
            word(a + 8),
            word(a + 16),
            word(a + 24),
            word(a + 32),
            word(a + 40),
        )
        rows, n, weight, bias = word(a + 48), word(a + 56), word(a + 72), word(a + 88)
        whole, rest = n & -16, n & 15
        for i in range(begin, end):
            for k in range(rows):
                at, to = x + i * x_item + k * x_row, out + i * out_item + k * out_row
                total = zero()
                for j in range(0, whole, 16):
                    total = fadd(total, load(at + 4 * j, 16))
                if rest:
                    total = fadd(total, load(at + 4 * whole, rest))
                mean = multiply(reduce_add(total), splat(a + 64))
                total = zero()
                for j in range(0, whole, 16):
                    v = fsub(load(at + 4 * j, 16), mean)
                    total = fma(v, v, total)
                if rest:
                    v = first(fsub(load(at + 4 * whole, rest), mean), rest)
                    total = fma(v, v, total)
                factor = divide(one(), sqrt(fma(reduce_add(total), splat(a + 64), splat(a + 80))))
                for j in range(0, whole, 16):
                    v = multiply(multiply(fsub(load(at + 4 * j, 16), mean), factor), weights(weight + size * j, 16))
                    if bias:
                        v = fadd(v, weights(bias + size * j, 16))
                    store(to + 4 * j, 16, v)
                if rest:
                    v = fsub(load(at + 4 * whole, rest), mean)
                    v = multiply(multiply(v, factor), weights(weight + size * whole, rest))
                    if bias:
                        v = fadd(v, weights(bias + size * whole, rest))
                    store(to + 4 * whole, rest, v)

    return layer_norm
