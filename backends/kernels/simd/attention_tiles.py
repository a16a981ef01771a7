"""Attention on a tile of rows (queries of one key head) and a block of keys, in scratch memory.

The arithmetic of a row is fixed, whatever tile it is in. In a block of keys, a score is one chain of fma over the
head; the largest score is the block's own; the sum of exp has sixteen parts (see `floats`); an output is one chain of
fma over the keys. Lanes hold keys, then outputs, never parts of one sum. What a row does not see has a score of -inf,
and adds exactly nothing.

A state is what is known of a tile's rows after some keys: the largest score of each, `room` f32; their sums of
exp(score - largest), as many; and of exp(score - largest) * value, rows of `width`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from burnish.backends.kernels.simd import attention_registers as ar
from burnish.backends.kernels.simd import floats as f
from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.attention_arguments import BLOCK, REGISTERS
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import word

__all__ = ["QUERIES", "Tiles", "tiles"]

QUERIES = 4  # rows that are summed at once, each in REGISTERS: with more of either, AVX2 spills them


class Tiles(NamedTuple):
    """Compiled functions on addresses; `keys` and `values` are addresses of BLOCK addresses, of rows of k and of v."""

    # Both ask for what lies `ahead` bytes behind each row: with few queries, there is little else to wait for.
    pack: Any  # (keys, head, to, ahead): k[BLOCK, head] -> [head, BLOCK]
    widen: Any  # (values, begin, end, head, to, width, ahead): v[BLOCK, head] -> [BLOCK, width], rows begin to end
    scores: Any  # (q, bytes of a row, keys, head, begin, end, to, rows): -> [rows, BLOCK], of keys from begin to end
    softmax: Any  # (scores, rows, largest, sums): to exp(score - largest), in place
    merge: Any  # (state, room, largest, sums, rows, old, new): all but the outputs, whose factors are `old` and `new`
    values: Any  # (weights, begin, end, values, width, outputs, rows, old, new): outputs * old + weights @ values * new
    clear: Any  # (state, room, rows, width): a state of no keys
    fold: Any  # (total, segment, room, rows, width, old, new): one state into another


def tiles(isa: Instructions) -> Tiles:
    """For one instruction set."""
    lanes, wide = isa.lanes, 4 * isa.lanes
    rows_at, transpose, no_infinity = ar.rows_at(lanes), ar.transpose, ar.no_infinity
    loads, splats, store_block = r.load("f32", lanes, REGISTERS), r.splat("f32", lanes, QUERIES), r.store
    no_sums, load_sums = r.zeros("f32", lanes, REGISTERS, QUERIES), r.load_block("f32", lanes, REGISTERS, QUERIES)
    load, store, splat, put = f.load16("f32", lanes), f.store16(lanes), f.splat16(lanes), f.store_first
    zero, lowest = f.constant(lanes, 0.0), f.constant(lanes, float("-inf"))
    fma, multiply, fadd, fsub, exp, larger = r.fma, r.multiply, f.fadd, f.fsub, f.exp, f.larger
    reduce_add, reduce_max, ask = f.reduce_add, f.reduce_max, r.prefetch(64, 1, near=False)

    @njit(nogil=True)
    def pack(keys: int, head: int, to: int, ahead: int) -> None:
        for j in range(0, BLOCK, lanes):
            for d in range(0, head, lanes):
                for i in range(lanes):
                    ask(word(keys + 8 * (j + i)) + 4 * d + ahead, 0)
                x = transpose(rows_at(keys + 8 * j, 4 * d, head - d))
                store_block(to + 4 * (d * BLOCK + j), 4 * BLOCK, 0, x)

    @njit(nogil=True)
    def widen(values: int, begin: int, end: int, head: int, to: int, width: int, ahead: int) -> None:
        for j in range(begin, end):
            at, row = word(values + 8 * j), to + 4 * j * width
            for d in range(0, head, 16):
                ask(at + 4 * d + ahead, 0)
                store(row + 4 * d, 16, load(at + 4 * d, head - d))

    @njit(nogil=True)
    def scores(q: int, step: int, keys: int, head: int, begin: int, end: int, to: int, rows: int) -> None:
        for i in range(0, rows, QUERIES):
            for j in range(begin, end, REGISTERS * lanes):
                sums = no_sums()
                for d in range(head):
                    sums = fma(loads(keys + 4 * (d * BLOCK + j), wide), splats(q + i * step + 4 * d, step), sums)
                store_block(to + 4 * (i * BLOCK + j), wide, 4 * BLOCK, sums)

    @njit(nogil=True)
    def softmax(scores: int, rows: int, largest: int, sums: int) -> None:
        for i in range(rows):
            at, top, total = scores + 4 * BLOCK * i, lowest(), zero()
            for j in range(0, 4 * BLOCK, 64):
                top = larger(load(at + j, 16), top)
            top = reduce_max(top)
            put(largest + 4 * i, top)
            top = no_infinity(top)
            for j in range(0, 4 * BLOCK, 64):
                e = exp(fsub(load(at + j, 16), top))
                store(at + j, 16, e)
                total = fadd(total, e)
            put(sums + 4 * i, reduce_add(total))

    @njit(nogil=True)
    def merge(state: int, room: int, largest: int, sums: int, rows: int, old: int, new: int) -> None:
        for i in range(0, 4 * rows, 64):
            before, added, total = load(state + i, 16), load(largest + i, 16), state + 4 * room + i
            top = larger(before, added)
            store(state + i, 16, top)
            top = no_infinity(top)
            x, y = exp(fsub(before, top)), exp(fsub(added, top))
            store(old + i, 16, x)
            store(new + i, 16, y)
            store(total, 16, fma(load(sums + i, 16), y, multiply(load(total, 16), x)))

    @njit(nogil=True)
    def values(
        weights: int, begin: int, end: int, values: int, width: int, outputs: int, rows: int, old: int, new: int
    ) -> None:
        for i in range(0, rows, QUERIES):
            for d in range(0, width, REGISTERS * lanes):
                sums = no_sums()
                for j in range(begin, end):
                    p = splats(weights + 4 * (i * BLOCK + j), 4 * BLOCK)
                    sums = fma(loads(values + 4 * (j * width + d), wide), p, sums)
                at = outputs + 4 * (i * width + d)
                kept = multiply(load_sums(at, wide, 4 * width), splats(old + 4 * i, 4))
                store_block(at, wide, 4 * width, fma(sums, splats(new + 4 * i, 4), kept))

    @njit(nogil=True)
    def clear(state: int, room: int, rows: int, width: int) -> None:
        for i in range(0, 4 * room, 64):
            store(state + i, 16, lowest())
        for i in range(4 * room, 4 * (2 * room + rows * width), 64):
            store(state + i, 16, zero())

    @njit(nogil=True)
    def fold(total: int, segment: int, room: int, rows: int, width: int, old: int, new: int) -> None:
        merge(total, room, segment, segment + 4 * room, rows, old, new)
        for i in range(rows):
            x, y = splat(old + 4 * i), splat(new + 4 * i)
            for d in range(4 * (2 * room + i * width), 4 * (2 * room + (i + 1) * width), 64):
                store(total + d, 16, fma(load(segment + d, 16), y, multiply(load(total + d, 16), x)))

    return Tiles(pack, widen, scores, softmax, merge, values, clear, fold)
