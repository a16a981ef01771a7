"""Rotations of the pairs of a head, by a table of cosines and sines for each token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from burnish.backends.kernels.simd import floats as f
from burnish.backends.kernels.simd import functions as analytic
from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd import words as w
from burnish.backends.kernels.simd.instructions import Instructions

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """An item of each is a token.

    A row of the table is the cosines, then the sines. Those of interleaved pairs stand there for each number of a
    pair, the first's sine negative: out = x * cos + the other of its pair * sin.
    """
    load, store, splat = f.load16("f32", isa.lanes), f.store16(isa.lanes), f.splat16(isa.lanes)
    multiply, fadd, fsub, exchanged = r.multiply, f.fadd, f.fsub, f.exchanged
    sin, cos, float32 = r.elementwise()(analytic.sin), r.elementwise()(analytic.cos), np.float32
    word, i32_at, f32_at, store_f32, copy_bytes = w.word, w.i32_at, w.f32_at, w.store_f32, w.copy_bytes

    @njit(nogil=True)
    def waves(to: int, position: int, inv_freq: int, half: int, scale: int, scratch: int) -> None:
        """The cosines, then the sines, of position * inv_freq, times the scale"""
        store_f32(scratch, float32(position))
        p, factor = splat(scratch), splat(scale)
        for j in range(0, half, 16):
            angle = multiply(p, load(inv_freq + 4 * j, half - j))
            store(to + 4 * j, half - j, multiply(cos(angle), factor))
            store(to + 4 * (half + j), half - j, multiply(sin(angle), factor))

    def table(a: int, begin: int, end: int, scratch: int) -> None:
        """positions, bytes of one, between sequences, between tokens, tokens of a sequence, inv_freq, bytes between
        sequences, pairs, scale, whether they are interleaved, out"""
        positions, size, by_sequence, by_token, tokens = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        inv_freq, freq_step, half, interleaved, out = (
            word(a + 40),
            word(a + 48),
            word(a + 56),
            word(a + 72),
            word(a + 80),
        )
        for i in range(begin, end):
            sequence = i // tokens
            at = positions + sequence * by_sequence + (i - sequence * tokens) * by_token
            position = word(at) if size == 8 else i32_at(at)
            if not interleaved:
                waves(out + i * 8 * half, position, inv_freq + sequence * freq_step, half, a + 64, scratch)
            else:
                to = out + i * 16 * half
                sines = to + 8 * half
                waves(sines, position, inv_freq + sequence * freq_step, half, a + 64, scratch)
                for j in range(half):
                    store_f32(to + 8 * j, f32_at(sines + 4 * j))
                    store_f32(to + 8 * j + 4, f32_at(sines + 4 * j))
                for j in range(half):  # the sine that is read is not overwritten yet
                    sine = f32_at(sines + 4 * (half + j))
                    store_f32(sines + 8 * j, -sine)
                    store_f32(sines + 8 * j + 4, sine)

    def halves(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes between sequences, between tokens, between heads, tokens of a sequence, heads, numbers of a head,
        pairs, table, out"""
        x, by_sequence, by_token, by_head, tokens = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        heads, n, half, waves_at, out = word(a + 40), word(a + 48), word(a + 56), word(a + 64), word(a + 72)
        for i in range(begin, end):
            sequence = i // tokens
            token = x + sequence * by_sequence + (i - sequence * tokens) * by_token
            c, s = waves_at + i * 8 * half, waves_at + i * 8 * half + 4 * half
            for h in range(heads):
                at, to = token + h * by_head, out + (i * heads + h) * 4 * n
                for j in range(0, half, 16):
                    left, right = load(at + 4 * j, half - j), load(at + 4 * (half + j), half - j)
                    cosine, sine = load(c + 4 * j, half - j), load(s + 4 * j, half - j)
                    store(to + 4 * j, half - j, fsub(multiply(left, cosine), multiply(right, sine)))
                    store(to + 4 * (half + j), half - j, fadd(multiply(right, cosine), multiply(left, sine)))
                copy_bytes(to + 8 * half, at + 8 * half, 4 * n - 8 * half)

    def pairs(a: int, begin: int, end: int, scratch: int) -> None:
        """The same, of interleaved pairs"""
        x, by_sequence, by_token, by_head, tokens = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        heads, n, turned, waves_at, out = word(a + 40), word(a + 48), 2 * word(a + 56), word(a + 64), word(a + 72)
        for i in range(begin, end):
            sequence = i // tokens
            token = x + sequence * by_sequence + (i - sequence * tokens) * by_token
            c, s = waves_at + i * 8 * turned, waves_at + i * 8 * turned + 4 * turned
            for h in range(heads):
                at, to = token + h * by_head, out + (i * heads + h) * 4 * n
                for j in range(0, turned, 16):
                    v, cosine, sine = (
                        load(at + 4 * j, turned - j),
                        load(c + 4 * j, turned - j),
                        load(s + 4 * j, turned - j),
                    )
                    store(to + 4 * j, turned - j, fadd(multiply(v, cosine), multiply(exchanged(v), sine)))
                copy_bytes(to + 4 * turned, at + 4 * turned, 4 * (n - turned))

    return {"table": table, "halves": halves, "pairs": pairs}
