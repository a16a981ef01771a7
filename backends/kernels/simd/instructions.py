"""The instruction sets: what differs between them is the product of bytes, and its sums."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from burnish.backends.kernels.simd.registers import Intrinsic, call_llvm, elementwise, filled, same

__all__ = ["INSTRUCTIONS", "Dot", "Instructions"]


@dataclass(frozen=True)
class Dot:
    """A product of codes, a byte each, and of signed inputs, four bytes to a 32-bit lane.

    `dot4(sums, codes, inputs)` adds to `sums`, Registers of `element` and `lanes`; `widen(sums)` is the sum of each
    32-bit lane. Between two widenings, `sums` hold what `most` times the largest code adds up to. Codes stand for
    numbers that are less by `zero`.
    """

    element: str
    lanes: int
    dot4: Intrinsic
    widen: Intrinsic
    most: int
    zero: int = 0

    def room(self, bits: int) -> int:
        """How many times `dot4` may add codes of so many bits before they are widened."""
        return self.most // ((1 << bits) - 1)


@dataclass(frozen=True)
class Instructions:
    """One instruction set, as the source of a kernel sees it: its lanes, and its products of codes from 0 up (of less
    than 8 bits) and of signed codes of 8 bits.
    """

    lanes: int
    rows: int  # tiles of rows that a product of many tokens takes at once: with more, sums do not stay in registers
    unsigned: Dot
    signed: Dot
    dot2: Intrinsic  # dot2(a, b): of two i16 in each 32-bit lane, the sum of their products


@elementwise()
def _avx2_dot4(
    builder: ir.IRBuilder, vector: ir.VectorType, sums: ir.Value, codes: ir.Value, inputs: ir.Value
) -> ir.Value:
    # Saturates to i16, as do its sums; inputs are at most 127.
    pairs = call_llvm(builder, "llvm.x86.avx2.pmadd.ub.sw", vector, codes, builder.bitcast(inputs, codes.type))
    return builder.add(sums, pairs)


@elementwise("i32", lanes=8)
def _avx2_widen(builder: ir.IRBuilder, vector: ir.VectorType, sums: ir.Value) -> ir.Value:
    return call_llvm(builder, "llvm.x86.avx2.pmadd.wd", vector, sums, filled(sums.type, 1))


@elementwise()
def _vnni_dot4(
    builder: ir.IRBuilder, vector: ir.VectorType, sums: ir.Value, codes: ir.Value, inputs: ir.Value
) -> ir.Value:
    return call_llvm(builder, "llvm.x86.avx512.vpdpbusd.512", vector, sums, builder.bitcast(codes, vector), inputs)


@elementwise()
def _avx2_signed_dot4(
    builder: ir.IRBuilder, vector: ir.VectorType, sums: ir.Value, codes: ir.Value, inputs: ir.Value
) -> ir.Value:
    # |code| times the input with the code's sign; of inputs from -127 up, 2 * 128 * 127 does not saturate.
    size = call_llvm(builder, f"llvm.abs.v{codes.type.count}i8", codes.type, codes, ir.IntType(1)(0))
    signed = call_llvm(builder, "llvm.x86.avx2.psign.b", codes.type, builder.bitcast(inputs, codes.type), codes)
    halves = ir.VectorType(ir.IntType(16), 2 * vector.count)
    pairs = call_llvm(builder, "llvm.x86.avx2.pmadd.ub.sw", halves, size, signed)
    return builder.add(sums, call_llvm(builder, "llvm.x86.avx2.pmadd.wd", vector, pairs, filled(halves, 1)))


@elementwise()
def _vnni_signed_dot4(
    builder: ir.IRBuilder, vector: ir.VectorType, sums: ir.Value, codes: ir.Value, inputs: ir.Value
) -> ir.Value:
    raised = builder.xor(codes, filled(codes.type, -128))  # code + 128
    return call_llvm(builder, "llvm.x86.avx512.vpdpbusd.512", vector, sums, builder.bitcast(raised, vector), inputs)


@elementwise()
def _avx2_dot2(builder: ir.IRBuilder, vector: ir.VectorType, a: ir.Value, b: ir.Value) -> ir.Value:
    halves = ir.VectorType(ir.IntType(16), 2 * vector.count)
    return call_llvm(builder, "llvm.x86.avx2.pmadd.wd", vector, builder.bitcast(a, halves), builder.bitcast(b, halves))


@elementwise()
def _avx512_dot2(builder: ir.IRBuilder, vector: ir.VectorType, a: ir.Value, b: ir.Value) -> ir.Value:
    halves = ir.VectorType(ir.IntType(16), 2 * vector.count)
    return call_llvm(
        builder, "llvm.x86.avx512.pmaddw.d.512", vector, builder.bitcast(a, halves), builder.bitcast(b, halves)
    )


MANY = 1 << 20  # 32 bits hold more products of bytes than a run has

#: by the name of the set in `cpu.INSTRUCTION_SETS`
INSTRUCTIONS = {
    "avx2": Instructions(
        lanes=8,
        rows=1,
        unsigned=Dot("i16", 16, _avx2_dot4, _avx2_widen, most=(2**15 - 1) // (2 * 127)),
        signed=Dot("i32", 8, _avx2_signed_dot4, same, MANY),
        dot2=_avx2_dot2,
    ),
    "avx512_vnni": Instructions(
        lanes=16,
        rows=2,
        unsigned=Dot("i32", 16, _vnni_dot4, same, MANY),
        signed=Dot("i32", 16, _vnni_signed_dot4, same, MANY, zero=128),
        dot2=_avx512_dot2,
    ),
}
