"""Registers of f32, of which the first lanes are read or written."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core.types import int64, void

from burnish.backends.kernels.simd.registers import (
    ALIGN,
    I32,
    Intrinsic,
    Registers,
    address,
    call_llvm,
    every_lane,
    instruction,
    pointer_to,
)

__all__ = ["load_part", "store_part"]


@instruction(lambda at, stride, count, registers: void(address, int64, int64, registers))
def store_part(
    builder: ir.IRBuilder, signature: Any, at: ir.Value, stride: ir.Value, count: ir.Value, value: ir.Value
) -> None:
    """store_part(address, bytes between columns, count, f32 registers): the first `count` of the lanes of all rows."""
    registers = signature.args[3]

    def store(whole: bool) -> None:
        for row in range(registers.rows):
            mask = _among_first(builder, registers, row, count)
            for col in range(registers.cols):
                start = builder.add(at, at.type(4 * registers.lanes * row))
                pointer = pointer_to(builder, registers.vector, start, (col, stride))
                x = registers.extract(builder, value, row, col)
                if whole:
                    builder.store(x, pointer, align=ALIGN)
                else:
                    name = f"llvm.masked.store.v{registers.lanes}f32.p0"
                    call_llvm(builder, name, ir.VoidType(), x, pointer, I32(ALIGN), mask)

    # Of AMD's processors, a store with a mask takes many times as long.
    all_lanes = count.type(registers.lanes * registers.rows)
    with builder.if_else(builder.icmp_signed(">=", count, all_lanes), likely=True) as (whole, part):
        with whole:
            store(True)
        with part:
            store(False)


def load_part(lanes: int, rows: int) -> Intrinsic:
    """load_part(address, count) -> f32 Registers[rows, 1], one after the other; lanes from `count` on are zeros, not
    read.
    """
    registers = Registers("f32", lanes, rows)

    @instruction(lambda at, count: registers(address, int64))
    def load_masked(builder: ir.IRBuilder, signature: Any, at: ir.Value, count: ir.Value) -> ir.Value:
        def one(row: int, col: int) -> ir.Value:
            pointer = pointer_to(builder, registers.vector, builder.add(at, at.type(4 * lanes * row)))
            mask, nothing = _among_first(builder, registers, row, count), ir.Constant(registers.vector, None)
            name = f"llvm.masked.load.v{lanes}f32.p0"
            return call_llvm(builder, name, registers.vector, pointer, I32(ALIGN), mask, nothing)

        return registers.build(builder, one)

    return load_masked


def _among_first(builder: ir.IRBuilder, registers: Registers, row: int, count: ir.Value) -> ir.Value:
    """Which lanes of a row are among the first `count` of all rows."""
    words = ir.VectorType(I32, registers.lanes)
    lane = ir.Constant(words, [registers.lanes * row + i for i in range(registers.lanes)])
    return builder.icmp_signed("<", lane, every_lane(builder, words, builder.trunc(count, I32)))
