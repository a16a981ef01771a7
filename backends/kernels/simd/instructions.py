"""The instruction sets: what differs between them is the product of bytes, and its sums."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from burnish.backends.kernels.simd.registers import Intrinsic, call_llvm, elementwise, filled, same

__all__ = ["INSTRUCTIONS", "Instructions"]


@dataclass(frozen=True)
class Instructions:
    """One instruction set, as the source of a kernel sees it.

    `dot4(sums, codes, inputs)` adds to `sums` the products of unsigned codes (a byte each) and of signed inputs (four
    bytes to a 32-bit lane); `sums` are Registers of `sum_element` and `sum_lanes`. `widen(sums)` is the sum of each
    32-bit lane. Between two widenings, `dot4` holds 32 products a lane of codes up to 15; on AVX2 not of larger ones.
    """

    lanes: int
    sum_element: str
    sum_lanes: int
    dot4: Intrinsic
    widen: Intrinsic


@elementwise()
def _avx2_dot4(
    builder: ir.IRBuilder, vector: ir.VectorType, sums: ir.Value, codes: ir.Value, inputs: ir.Value
) -> ir.Value:
    # Saturates to i16: 2 * 15 * 128 a time, eight times, stays below 2**15.
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


#: by the name of the set in `cpu.INSTRUCTION_SETS`
INSTRUCTIONS = {
    "avx2": Instructions(8, "i16", 16, _avx2_dot4, _avx2_widen),
    "avx512_vnni": Instructions(16, "i32", 16, _vnni_dot4, same),
}
