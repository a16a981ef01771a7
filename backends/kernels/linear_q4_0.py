"""Q4_0 weights with int8 activations: a linear at the speed at which memory gives the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from burnish.backends.kernels.linear import Int8Linear, TileShape
from burnish.backends.kernels.tiles import Arrangement
from burnish.ir.format import Array, Fields

if TYPE_CHECKING:
    from burnish.backends.kernels.simd.instructions import Instructions
    from burnish.backends.kernels.simd.product import TileFunction


class Q4_0Arrangement(Arrangement):
    """Four words a group: word j has inputs 8j … 8j+3 in the low nibbles of its bytes, 8j+4 … 8j+7 in the high ones.

    So one load, one mask and one shift give two registers of codes, each four inputs that follow each other.
    """

    format = "q4_0"

    def words(self, xp: Any, fields: Fields) -> Array:
        """q u8[..., 16], where byte j holds inputs j and j + 16 -> u8[..., 16]."""
        q = fields["q"]
        codes = xp.concatenate([q & 15, q >> 4], axis=-1).reshape(*q.shape[:-1], 4, 2, 4)
        return (codes[..., 0, :] | (codes[..., 1, :] << 4)).reshape(q.shape)

    def scales(self, xp: Any, fields: Fields) -> Array:
        """d f16[..., 1]."""
        return fields["d"]

    def fields(self, xp: Any, words: Array, scales: Array) -> Fields:
        """The inverse."""
        pairs = words.reshape(*words.shape[:-1], 4, 4)
        codes = xp.stack([pairs & 15, pairs >> 4], axis=-2).reshape(*words.shape[:-1], 32)
        return {"d": scales, "q": codes[..., :16] | (codes[..., 16:] << 4)}


class LinearQ4_0(Int8Linear):
    """w = d * (q - 8): the sum of q * x in integers, less 8 * the sum of x, times both scales."""

    name = "linear.q4_0"
    format = "q4_0"
    zero_point = 8

    def tile(self, isa: Instructions, shape: TileShape) -> TileFunction:
        """The tile: per group four registers of codes a row tile, and the f16 scales of its rows."""
        from numba import njit

        from burnish.backends.kernels.simd import registers as r

        lanes, rows, tokens, ahead = isa.lanes, shape.rows, shape.tokens, shape.ahead
        group_words, group_scales, group_inputs = 16 * lanes, 2 * lanes, 40 * tokens  # bytes
        # Compiled code sees no classes: what it calls are names bound here.
        dot4, widen, hold = isa.dot4, isa.widen, r.pin if tokens > 1 else r.same
        low_nibbles, high_nibbles, prefetch, store = r.low_nibbles, r.high_nibbles, r.prefetch, r.store
        multiply, subtract, fma, to_f32 = r.multiply, r.subtract, r.fma, r.to_f32
        codes, halves = r.load("i8", 4 * lanes, rows), r.load("f16", lanes, rows)
        inputs, floats = r.splat("i32", lanes, tokens), r.splat("f32", lanes, tokens)
        no_output, no_sums = r.zeros("f32", lanes, rows, tokens), r.zeros(isa.sum_element, isa.sum_lanes, rows, tokens)

        @njit(nogil=True)
        def tile(
            words: int, word_stride: int, scales: int, scale_stride: int, panel: int, groups: int,
            out: int, row_stride: int, token_stride: int,
        ) -> None:  # fmt: skip
            output = no_output()
            for _ in range(groups):
                for row in range(rows if ahead else 0):
                    for line in range(0, group_words, 64):
                        prefetch(words + row * word_stride + line + ahead)
                sums = no_sums()
                for j in range(4):
                    pairs = codes(words + 4 * lanes * j, word_stride)
                    sums = hold(dot4(sums, low_nibbles(pairs), inputs(panel + 8 * tokens * j)))
                    sums = hold(dot4(sums, high_nibbles(pairs), inputs(panel + 8 * tokens * j + 4 * tokens)))
                total = subtract(widen(sums), inputs(panel + 36 * tokens))
                scale = multiply(to_f32(halves(scales, scale_stride)), floats(panel + 32 * tokens))
                output = fma(scale, to_f32(total), output)
                words, scales, panel = words + group_words, scales + group_scales, panel + group_inputs
            store(out, row_stride, token_stride, output)

        return tile
