"""What only attention does with registers: blocks of keys turned over, scores that are not seen."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core.types import int64

from burnish.backends.kernels.simd.registers import (
    I32,
    Intrinsic,
    Registers,
    call_llvm,
    elementwise,
    every_lane,
    filled,
    instruction,
)

__all__ = ["between", "no_infinity", "rows_at", "shown", "transpose"]

I1, I8, I64, F32 = ir.IntType(1), ir.IntType(8), ir.IntType(64), ir.FloatType()
WIDTH = 16
LOWEST = float("-inf")


def rows_at(lanes: int) -> Intrinsic:
    """rows_at(address of addresses, offset, count) -> Registers[lanes, 1]: the f32 at each of `lanes` addresses plus
    `offset`; those from `count` on are zeros, not read.
    """
    registers = Registers("f32", lanes, lanes)
    vector = registers.vector

    @instruction(lambda addresses, offset, count: registers(int64, int64, int64))
    def load_rows(
        builder: ir.IRBuilder, signature: Any, addresses: ir.Value, offset: ir.Value, count: ir.Value
    ) -> ir.Value:
        def place(row: int) -> ir.Value:
            entry = builder.inttoptr(builder.add(addresses, I64(8 * row)), I64.as_pointer())
            at = builder.add(builder.load(entry, align=8), offset)
            return builder.inttoptr(at, vector.as_pointer())

        with builder.if_else(builder.icmp_signed(">=", count, I64(lanes))) as (whole, part):
            with whole:
                full = registers.build(builder, lambda row, col: builder.load(place(row), align=4))
                whole_block = builder.block
            with part:
                mask = _below(builder, lanes, 0, count)
                name, none = f"llvm.masked.load.v{lanes}f32.p0", ir.Constant(vector, None)
                some = registers.build(
                    builder, lambda row, col: call_llvm(builder, name, vector, place(row), I32(4), mask, none)
                )
                part_block = builder.block
        phi = builder.phi(full.type)
        phi.add_incoming(full, whole_block)
        phi.add_incoming(some, part_block)
        return phi

    return load_rows


@instruction(lambda registers: registers(registers))
def transpose(builder: ir.IRBuilder, signature: Any, value: ir.Value) -> ir.Value:
    """transpose(Registers[lanes, 1]): element j of row i becomes element i of row j."""
    registers = signature.return_type
    lanes = registers.lanes
    quarters = range(0, lanes, 4)

    def shuffle(x: ir.Value, y: ir.Value, order: list[int]) -> ir.Value:
        return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, lanes), order))

    def pairs(x: ir.Value, y: ir.Value, first: int, size: int) -> ir.Value:
        """`size` elements of x and as many of y in turn, from `first` on, in each four."""
        halves = [[at + q + i for at in (0, lanes) for i in range(size)] for q in range(first, first + 2, size)]
        return shuffle(x, y, [q + i for q in quarters for half in halves for i in half])

    rows = [registers.extract(builder, value, i, 0) for i in range(lanes)]
    for i in range(0, lanes, 4):  # four rows of fours turned over, as an instruction does in each four
        a, b, c, d = rows[i : i + 4]
        low, high, low2, high2 = pairs(a, b, 0, 1), pairs(a, b, 2, 1), pairs(c, d, 0, 1), pairs(c, d, 2, 1)
        rows[i : i + 4] = [
            pairs(low, low2, 0, 2), pairs(low, low2, 2, 2), pairs(high, high2, 0, 2), pairs(high, high2, 2, 2)
        ]  # fmt: skip
    step = 4
    while step < lanes:  # then the fours themselves
        for i in range(lanes):
            if not i & step:
                x, y = rows[i], rows[i + step]
                rows[i] = shuffle(x, y, [c if not c & step else lanes + c - step for c in range(lanes)])
                rows[i + step] = shuffle(x, y, [c + step if not c & step else lanes + c for c in range(lanes)])
        step *= 2
    return registers.build(builder, lambda row, col: rows[row])


def between(lanes: int) -> Intrinsic:
    """between(sixteen f32, low, high): those from `low` up and below `high`, and -inf for the others."""
    registers = Registers("f32", lanes, 1, WIDTH // lanes)

    @instruction(lambda value, low, high: registers(registers, int64, int64))
    def between16(builder: ir.IRBuilder, signature: Any, value: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        def one(row: int, col: int) -> ir.Value:
            below, before = _below(builder, lanes, col, high), _below(builder, lanes, col, low)
            x = builder.select(below, registers.extract(builder, value, row, col), filled(registers.vector, LOWEST))
            return builder.select(before, filled(registers.vector, LOWEST), x)

        return registers.build(builder, one)

    return between16


def shown(lanes: int) -> Intrinsic:
    """shown(sixteen f32, address, count): those whose byte there is not 0, and -inf for the others; from `count` on, no
    byte is read.
    """
    registers = Registers("f32", lanes, 1, WIDTH // lanes)
    bytes_ = ir.VectorType(I8, lanes)

    @instruction(lambda value, at, count: registers(registers, int64, int64))
    def shown16(builder: ir.IRBuilder, signature: Any, value: ir.Value, at: ir.Value, count: ir.Value) -> ir.Value:
        none = ir.Constant(bytes_, None)

        def place(col: int) -> ir.Value:
            return builder.inttoptr(builder.add(at, I64(col * lanes)), bytes_.as_pointer())

        def masked(row: int, col: int) -> ir.Value:
            mask, name = _below(builder, lanes, col, count), f"llvm.masked.load.v{lanes}i8.p0"
            return one(col, call_llvm(builder, name, bytes_, place(col), I32(1), mask, none))

        def one(col: int, seen: ir.Value) -> ir.Value:
            x = registers.extract(builder, value, 0, col)
            return builder.select(builder.icmp_unsigned("!=", seen, none), x, filled(registers.vector, LOWEST))

        # AVX2 has no masked loads of bytes: LLVM makes sixteen branches of one.
        with builder.if_else(builder.icmp_signed(">=", count, I64(WIDTH))) as (whole, part):
            with whole:
                full = registers.build(builder, lambda row, col: one(col, builder.load(place(col), align=1)))
                whole_block = builder.block
            with part:
                some = registers.build(builder, masked)
                part_block = builder.block
        phi = builder.phi(full.type)
        phi.add_incoming(full, whole_block)
        phi.add_incoming(some, part_block)
        return phi

    return shown16


@elementwise()
def no_infinity(builder: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """x, but 0 for -inf."""
    return builder.select(builder.fcmp_ordered("==", x, filled(vector, LOWEST)), ir.Constant(vector, None), x)


def _below(builder: ir.IRBuilder, lanes: int, col: int, count: ir.Value) -> ir.Value:
    """Which lanes of a column are among the first `count`, that may be less than 0."""
    words = ir.VectorType(I32, lanes)
    at = ir.Constant(words, [col * lanes + i for i in range(lanes)])
    return builder.icmp_signed("<", at, every_lane(builder, words, builder.trunc(count, I32)))
