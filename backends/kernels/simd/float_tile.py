"""The tile of a product of floats: the outputs of some rows of weights and some tokens.

Each output is a sum of sixteen parts: part i is made of the inputs i, i + 16, i + 32, …, in order, each product added
by one fused multiplication; then the halves of the parts are added up, and the halves of those. Nothing else enters
into its bits: neither the other outputs of a tile, nor the instruction set, nor where rows lie.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit
from numba.core.types import int64, void

from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.instructions import Instructions

__all__ = ["SIZES", "WIDTH", "TileFunction", "float_tile", "load_row"]

#: tile(w, bytes between rows, x, bytes between tokens, inputs, first, last, sums, out, bytes between tokens, bias or
#: 0): w[rows, inputs] of the element, x[tokens, inputs] f32, out[tokens, rows] f32 and bias[rows] f32 without gaps.
#: Where these are not the first inputs, sums begin as they stand at `sums`; where not the last, they are left there.
TileFunction = Callable[..., Any]
WIDTH = 16
ONE_HALF = 6  # sums: of more, registers hold but one half at once of each, where they have fewer lanes than parts
SIZES = {"f32": 4, "f16": 2, "bf16": 2}  # bytes of an element


def float_tile(element: str, isa: Instructions, rows: int, tokens: int, ahead: int = 0) -> TileFunction:
    """Compile the tile; what is `ahead` bytes ahead in each row, if at all, is asked for into the second cache."""
    lanes, size = isa.lanes, SIZES[element]
    load_w, load_x = _load(element, lanes, rows, 1), _load("f32", lanes, 1, tokens)
    last_w, last_x = _load(element, lanes, rows, 1, True), _load("f32", lanes, 1, tokens, True)
    zeros, fma, store_totals = r.zeros("f32", lanes, rows, tokens), r.fma, _store_totals
    load_sums, store_sums = _load_sums(lanes, rows, tokens), r.store
    prefetch = r.prefetch(1, rows, near=False)
    two = lanes < WIDTH  # registers for sixteen parts
    apart = two and rows * tokens > ONE_HALF
    half, step = size * lanes, size * WIDTH
    row_sums, register, all_sums = 4 * lanes * tokens, 4 * lanes, 4 * lanes * tokens * rows

    @njit(nogil=True)
    def tile(
        w: int, w_step: int, x: int, x_step: int, inputs: int, first: bool, last: bool, sums: int,
        out: int, out_step: int, bias: int,
    ) -> None:  # fmt: skip
        low, high = zeros(), zeros()
        if not first:
            low = load_sums(sums)
            if two:
                high = load_sums(sums + all_sums)
        end = x + inputs // WIDTH * 64
        while x < end:
            if ahead:
                prefetch(w + ahead, w_step)
            low = fma(load_w(w, w_step, WIDTH), load_x(x, x_step, WIDTH), low)
            if two and not apart:
                high = fma(load_w(w + half, w_step, WIDTH), load_x(x + 32, x_step, WIDTH), high)
            w, x = w + step, x + 64
        if apart:
            w, x = w - inputs // WIDTH * step, x - inputs // WIDTH * 64
            while x < end:
                high = fma(load_w(w + half, w_step, WIDTH), load_x(x + 32, x_step, WIDTH), high)
                w, x = w + step, x + 64
        rest = inputs % WIDTH
        if rest:
            low = fma(last_w(w, w_step, rest), last_x(x, x_step, rest), low)
            if two and rest > lanes:
                rest -= lanes
                high = fma(last_w(w + half, w_step, rest), last_x(x + 32, x_step, rest), high)
        if last:
            store_totals(out, out_step, bias, low, high)
        else:
            store_sums(sums, row_sums, register, low)
            if two:
                store_sums(sums + all_sums, row_sums, register, high)

    return tile


def load_row(element: str, lanes: int, masked: bool = False) -> r.Intrinsic:
    """load_row(address, 0, count) -> f32 of f32, f16 or bf16; `masked`, from `count` on zeros, not read."""
    return _load(element, lanes, 1, 1, masked)


def _load(element: str, lanes: int, rows: int, cols: int, masked: bool = False) -> r.Intrinsic:
    registers = r.Registers("f32", lanes, rows, cols)
    stored = {"f32": ir.FloatType(), "f16": ir.HalfType(), "bf16": ir.IntType(16)}[element]
    vector, words = ir.VectorType(stored, lanes), ir.VectorType(r.I32, lanes)

    @r.instruction(lambda at, stride, count: registers(int64, int64, int64))
    def load(builder: ir.IRBuilder, signature: Any, at: ir.Value, stride: ir.Value, count: ir.Value) -> ir.Value:
        def one(row: int, col: int) -> ir.Value:
            place = builder.add(at, builder.mul(stride, stride.type(row + col)))
            pointer = builder.inttoptr(place, vector.as_pointer())
            if masked:
                lane = ir.Constant(words, list(range(lanes)))
                mask = builder.icmp_signed("<", lane, r.every_lane(builder, words, builder.trunc(count, r.I32)))
                name = f"llvm.masked.load.v{lanes}{'i16' if element == 'bf16' else element}.p0"
                align = r.I32(SIZES[element])
                x = r.call_llvm(builder, name, vector, pointer, align, mask, ir.Constant(vector, None))
            else:
                x = builder.load(pointer, align=SIZES[element])
            if element == "bf16":
                return builder.bitcast(builder.shl(builder.zext(x, words), r.filled(words, 16)), registers.vector)
            return x if element == "f32" else builder.fpext(x, registers.vector)

        return registers.build(builder, one)

    return load


def _load_sums(lanes: int, rows: int, cols: int) -> r.Intrinsic:
    registers = r.Registers("f32", lanes, rows, cols)

    @r.instruction(lambda at: registers(int64))
    def load_sums(builder: ir.IRBuilder, signature: Any, at: ir.Value) -> ir.Value:
        def one(row: int, col: int) -> ir.Value:
            place = builder.add(at, at.type((row * cols + col) * 4 * lanes))
            return builder.load(builder.inttoptr(place, registers.vector.as_pointer()), align=4)

        return registers.build(builder, one)

    return load_sums


@r.instruction(lambda at, stride, bias, low, high: void(int64, int64, int64, low, high))
def _store_totals(
    builder: ir.IRBuilder, signature: Any, at: ir.Value, stride: ir.Value, bias: ir.Value, low: ir.Value, high: ir.Value
) -> None:
    """store_totals(address, bytes between columns, bias or 0, low, high): of each column, the sums of its rows side by
    side. The parts of a sum are those of `low`, and of `high` where a register has fewer lanes than there are parts.
    """
    registers = signature.args[3]
    totals = ir.VectorType(ir.FloatType(), registers.rows)
    there = r.every_lane(
        builder, ir.VectorType(ir.IntType(1), registers.rows), builder.icmp_signed("!=", bias, bias.type(0))
    )
    name, pointer = f"llvm.masked.load.v{registers.rows}f32.p0", builder.inttoptr(bias, totals.as_pointer())
    added = r.call_llvm(builder, name, totals, pointer, r.I32(4), there, ir.Constant(totals, None))
    for col in range(registers.cols):
        sums = [registers.extract(builder, low, row, col) for row in range(registers.rows)]
        if registers.lanes < WIDTH:
            sums = [builder.fadd(x, registers.extract(builder, high, i, col)) for i, x in enumerate(sums)]
        parts = registers.lanes  # of each sum, side by side in a register
        while len(sums) > 1:
            sums = [_joined(builder, a, b, parts) for a, b in zip(sums[::2], sums[1::2], strict=True)]
            parts //= 2
        total = _halved(builder, sums[0], parts)
        firsts = ir.Constant(ir.VectorType(r.I32, registers.rows), list(range(0, registers.rows * parts, parts)))
        total = builder.fadd(builder.shuffle_vector(total, total, firsts), added)
        place = builder.add(at, builder.mul(stride, stride.type(col)))
        builder.store(total, builder.inttoptr(place, totals.as_pointer()), align=4)


def _joined(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, parts: int) -> ir.Value:
    """The sums of a and then those of b, `parts` lanes each, as sums of half as many."""
    lanes, half = a.type.count, parts // 2
    starts = [s for s in range(0, 2 * lanes, parts)]
    low = [s + i for s in starts for i in range(half)]
    former, latter = (ir.Constant(ir.VectorType(r.I32, lanes), [i + off for i in low]) for off in (0, half))
    return builder.fadd(builder.shuffle_vector(a, b, former), builder.shuffle_vector(a, b, latter))


def _halved(builder: ir.IRBuilder, x: ir.Value, parts: int) -> ir.Value:
    """Each sum of `parts` lanes added up, in its first lane."""
    lanes = x.type.count
    while parts > 1:
        parts //= 2
        order = ir.Constant(ir.VectorType(r.I32, lanes), [i ^ parts for i in range(lanes)])
        x = builder.fadd(x, builder.shuffle_vector(x, x, order))
    return x
