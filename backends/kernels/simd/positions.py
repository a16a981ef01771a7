"""What follows from where tokens stand: positions, and biases by the distance from query to key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit
from numba.core.types import int64

from burnish.backends.kernels.simd import floats as f
from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import copy_bytes, f32_at, i32_at, store_f32, store_i32, word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """An item of `positions` is a token, one of `alibi` a query of a head, one of `relative_bias` a head, which needs
    scratch memory for a number of each distance. No past is at address 0.
    """
    store, splat, multiply, from_here = f.store16(isa.lanes), f.splat16(isa.lanes), r.multiply, _from_here(isa.lanes)

    @njit(nogil=True)
    def fill(to: int, count: int, at: int) -> None:
        for j in range(0, count, 16):
            store(to + 4 * j, count - j, splat(at))

    def positions(a: int, begin: int, end: int, scratch: int) -> None:
        """past, bytes between sequences, tokens of a sequence, out"""
        past, step, tokens, out = word(a), word(a + 8), word(a + 16), word(a + 24)
        for item in range(begin, end):
            b = item // tokens
            first = i32_at(past + b * step) if past else 0
            store_i32(out + 4 * item, first + item - b * tokens)

    def relative_bias(a: int, begin: int, end: int, scratch: int) -> None:
        """past, bytes between sequences, heads, queries, keys, table, bytes between buckets, between heads, buckets of
        the distances 0, 1, …, the last of them for all beyond, buckets for keys behind the query (0 where these have
        none), out"""
        past, step, heads, queries, keys = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        table, row_step, head_step = word(a + 40), word(a + 48), word(a + 56)
        buckets, most, behind, out = word(a + 64), word(a + 72), word(a + 80), word(a + 88)
        for item in range(begin, end):
            b, head = item // heads, item % heads
            least = 1 - queries - (i32_at(past + b * step) if past else 0)
            column, n = table + head * head_step, queries + keys - 1
            near = min(max(-most - least, 0), n)  # from here on the distance is -most, or more
            last = min(max((most if behind else 0) - least, near), n)  # and from here on at least that
            fill(scratch, near, column + i32_at(buckets + 4 * most) * row_step)
            for i in range(near, last):  # each distance once; a query's row is a part of that
                distance = least + i
                bucket = i32_at(buckets + 4 * abs(distance)) + (behind if distance > 0 else 0)
                store_f32(scratch + 4 * i, f32_at(column + bucket * row_step))
            beyond = i32_at(buckets + 4 * (most if behind else 0)) + behind
            fill(scratch + 4 * last, n - last, column + beyond * row_step)
            to = out + item * queries * keys * 4
            for query in range(queries):
                copy_bytes(to + 4 * query * keys, scratch + 4 * (queries - 1 - query), 4 * keys)

    def alibi(a: int, begin: int, end: int, scratch: int) -> None:
        """past, bytes between sequences, heads, queries, keys, slopes, bytes between them, out"""
        past, step, heads, queries, keys = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        slopes, slope_step, out = word(a + 40), word(a + 48), word(a + 56)
        for item in range(begin, end):
            of, query = item // queries, item % queries
            b, head = of // heads, of % heads
            at = query + (i32_at(past + b * step) if past else 0)
            slope, to = splat(slopes + head * slope_step), out + 4 * item * keys
            for key in range(0, keys, 16):
                store(to + 4 * key, keys - key, multiply(slope, from_here(key - at)))

    return {"positions": positions, "relative_bias": relative_bias, "alibi": alibi}


def _from_here(lanes: int) -> r.Intrinsic:
    """from_here(i) -> f32 of the integers i, i + 1, … i + 15"""
    registers, words = r.Registers("f32", lanes, 1, f.WIDTH // lanes), ir.VectorType(r.I32, lanes)

    @r.instruction(lambda first: registers(int64))
    def from_here(builder: ir.IRBuilder, signature: Any, first: ir.Value) -> ir.Value:
        same = r.every_lane(builder, words, builder.trunc(first, r.I32))

        def one(row: int, col: int) -> ir.Value:
            steps = ir.Constant(words, [col * lanes + i for i in range(lanes)])
            return builder.sitofp(builder.add(same, steps), registers.vector)

        return registers.build(builder, one)

    return from_here
