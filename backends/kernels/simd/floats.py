"""Numbers by sixteens: f32 in as many registers as that takes, whose sums and largest do not depend on how many.

A sum of a row has sixteen parts: part i is made of the elements at i, i + 16, i + 32, …, in order; then the halves of
the parts are added up, and the halves of those. So a row's sum has the same bits on every instruction set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core.types import int64, void

from burnish.backends.kernels.simd.registers import (
    ELEMENTS,
    I32,
    Intrinsic,
    Registers,
    address,
    call_llvm,
    elementwise,
    every_lane,
    filled,
    instruction,
)

__all__ = [
    "WIDTH", "absolute", "constant", "divide", "emit_exp", "emit_sigmoid", "exchanged", "exp", "fadd", "first",
    "fsub", "larger", "larger_i32", "load16", "maximum", "negate", "reduce_add", "reduce_max", "reduce_max_i32",
    "reduce_maximum", "rint", "sigmoid", "smaller", "splat16", "sqrt", "store16",
]  # fmt: skip

WIDTH = 16


def _shape(lanes: int, element: str = "f32") -> Registers:
    return Registers(element, lanes, 1, WIDTH // lanes)


def _mask(builder: ir.IRBuilder, lanes: int, col: int, count: ir.Value) -> ir.Value:
    """Which lanes of a column are among the first `count` of sixteen."""
    words = ir.VectorType(I32, lanes)
    at = ir.Constant(words, [col * lanes + i for i in range(lanes)])
    return builder.icmp_signed("<", at, every_lane(builder, words, builder.trunc(count, I32)))


def load16(element: str, lanes: int) -> Intrinsic:
    """load16(address, count) -> sixteen f32, of f32, f16 or bf16; those from `count` on are zeros, not read."""
    registers = _shape(lanes)
    storage = {"bf16": ir.IntType(16)}.get(element, ELEMENTS.get(element))
    vector = ir.VectorType(storage, lanes)
    size = 4 if element == "f32" else 2

    @instruction(lambda at, count: registers(address, int64))
    def load_sixteen(builder: ir.IRBuilder, signature: Any, at: ir.Value, count: ir.Value) -> ir.Value:
        def one(row: int, col: int) -> ir.Value:
            place = builder.add(at, at.type(col * lanes * size))
            pointer = builder.inttoptr(place, vector.as_pointer())
            name = f"llvm.masked.load.v{lanes}{'i16' if size == 2 and element == 'bf16' else element}.p0"
            mask = _mask(builder, lanes, col, count)
            x = call_llvm(builder, name, vector, pointer, I32(2), mask, ir.Constant(vector, None))
            return _widened(builder, x, element, registers.vector)

        with builder.if_else(builder.icmp_signed(">=", count, count.type(WIDTH))) as (whole, part):
            with whole:
                full = registers.build(
                    builder,
                    lambda row, col: _widened(
                        builder,
                        builder.load(
                            builder.inttoptr(builder.add(at, at.type(col * lanes * size)), vector.as_pointer()), align=2
                        ),
                        element,
                        registers.vector,
                    ),
                )
                whole_block = builder.block
            with part:
                some = registers.build(builder, one)
                part_block = builder.block
        phi = builder.phi(full.type)
        phi.add_incoming(full, whole_block)
        phi.add_incoming(some, part_block)
        return phi

    return load_sixteen


def _widened(builder: ir.IRBuilder, x: ir.Value, element: str, to: ir.VectorType) -> ir.Value:
    if element == "f32":
        return x
    if element == "f16":
        return builder.fpext(x, to)
    words = ir.VectorType(I32, to.count)
    return builder.bitcast(builder.shl(builder.zext(x, words), filled(words, 16)), to)


def store16(lanes: int) -> Intrinsic:
    """store16(address, count, registers): the first `count` of sixteen f32."""
    registers = _shape(lanes)

    @instruction(lambda at, count, value: void(address, int64, registers))
    def store_sixteen(
        builder: ir.IRBuilder, signature: Any, at: ir.Value, count: ir.Value, value: ir.Value
    ) -> None:
        def pointer(col: int) -> ir.Value:
            return builder.inttoptr(builder.add(at, at.type(col * lanes * 4)), registers.vector.as_pointer())

        with builder.if_else(builder.icmp_signed(">=", count, count.type(WIDTH))) as (whole, part):
            with whole:
                for col in range(registers.cols):
                    builder.store(registers.extract(builder, value, 0, col), pointer(col), align=4)
            with part:
                for col in range(registers.cols):
                    mask, x = _mask(builder, lanes, col, count), registers.extract(builder, value, 0, col)
                    name = f"llvm.masked.store.v{lanes}f32.p0"
                    call_llvm(builder, name, ir.VoidType(), x, pointer(col), I32(4), mask)

    return store_sixteen


def splat16(lanes: int) -> Intrinsic:
    """splat16(address) -> the f32 there, in all of sixteen."""
    registers = _shape(lanes)

    @instruction(lambda at: registers(address))
    def splat_sixteen(builder: ir.IRBuilder, signature: Any, at: ir.Value) -> ir.Value:
        x = builder.load(builder.inttoptr(at, ir.FloatType().as_pointer()), align=4)
        return registers.build(builder, lambda row, col: every_lane(builder, registers.vector, x))

    return splat_sixteen


def constant(lanes: int, value: float) -> Intrinsic:
    """constant() -> a number, rounded to f32, in all of sixteen."""
    registers = _shape(lanes)

    @instruction(registers)
    def constant_sixteen(builder: ir.IRBuilder, signature: Any) -> ir.Value:
        return registers.build(builder, lambda row, col: _number(registers.vector, value))

    return constant_sixteen


def _number(vector: ir.VectorType, value: float) -> ir.Value:
    return filled(vector, float(np.float32(value)))


def _reduction(join: Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]) -> Intrinsic:
    @instruction(lambda registers: registers(registers))
    def reduce16(builder: ir.IRBuilder, signature: Any, value: ir.Value) -> ir.Value:
        registers = signature.return_type
        columns = [registers.extract(builder, value, 0, col) for col in range(registers.cols)]
        while len(columns) > 1:  # the halves of sixteen, then those of a register
            half = len(columns) // 2
            columns = [join(builder, a, b) for a, b in zip(columns[:half], columns[half:], strict=True)]
        (x,) = columns
        lanes = registers.lanes
        while lanes > 1:
            lanes //= 2
            order = ir.Constant(ir.VectorType(I32, registers.lanes), [i ^ lanes for i in range(registers.lanes)])
            x = join(builder, x, builder.shuffle_vector(x, x, order))
        return registers.build(builder, lambda row, col: x)

    return reduce16


def _larger(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.fcmp_ordered(">", x, y), x, y)


def _sum(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.fadd(x, y)


def _maximum(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.or_(b.fcmp_ordered(">", x, y), b.fcmp_unordered("uno", x, x)), x, y)


def _larger_i32(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    words = ir.VectorType(I32, x.type.count)
    return b.select(b.icmp_signed(">", b.bitcast(x, words), b.bitcast(y, words)), x, y)


#: the sum, or the largest, of sixteen, in all of them; `reduce_maximum` is NaN where one is, `reduce_max_i32` of i32
reduce_add = _reduction(_sum)
reduce_max = _reduction(_larger)
reduce_maximum = _reduction(_maximum)
reduce_max_i32 = _reduction(_larger_i32)


@elementwise()
def fadd(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """x + y."""
    return b.fadd(x, y)


@elementwise()
def fsub(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """x - y."""
    return b.fsub(x, y)


@elementwise()
def divide(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """x / y."""
    return b.fdiv(x, y)


@elementwise()
def larger(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """x where it is larger, else y (so a NaN in y stays, and one in x does not)."""
    return _larger(b, x, y)


@elementwise()
def maximum(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """The larger of x and y, NaN where either is."""
    return _maximum(b, x, y)


@elementwise()
def larger_i32(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """The larger of x and y, whose bits are i32."""
    return _larger_i32(b, x, y)


@elementwise()
def smaller(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """x where it is smaller, else y."""
    return b.select(b.fcmp_ordered("<", x, y), x, y)


@elementwise()
def negate(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """-x."""
    return b.fneg(x)


@elementwise()
def absolute(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """|x|."""
    return call_llvm(b, f"llvm.fabs.v{vector.count}f32", vector, x)


@elementwise()
def rint(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """x to the nearest integer, halves to the even one."""
    return call_llvm(b, f"llvm.rint.v{vector.count}f32", vector, x)


@elementwise()
def sqrt(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """The square root, rounded once."""
    return call_llvm(b, f"llvm.sqrt.v{vector.count}f32", vector, x)


# The polynomial of Cephes' expf, highest power first.
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
ROUND = 12582912.0  # 1.5 * 2**23: added, it leaves the nearest integer in the low bits


def emit_exp(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, whole: bool) -> ir.Value:
    """exp(x) = 2**n * exp(r), |r| <= ln(2) / 2; NaN of NaN. Within 1.5 ulp.

    Unless `whole`, which costs a few instructions, it is 0 below -87.68 and inf above 88.37.
    """

    def number(value: float) -> ir.Value:
        return _number(vector, value)

    def fma(x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        return call_llvm(b, f"llvm.fma.v{vector.count}f32", vector, x, y, z)

    def power_of_two(n: ir.Value) -> ir.Value:
        return b.bitcast(b.shl(b.add(n, filled(words, 127)), filled(words, 23)), vector)

    words = ir.VectorType(I32, vector.count)
    least, most = (-104.0, 89.0) if whole else (-88.0, 88.75)
    x = b.select(b.fcmp_ordered("<", x, number(least)), number(least), x)  # in this order a NaN stays
    x = b.select(b.fcmp_ordered(">", x, number(most)), number(most), x)
    shifted = fma(x, number(1.4426950408889634), number(ROUND))
    n = b.fsub(shifted, number(ROUND))
    r = fma(n, number(-0.693145751953125), x)
    r = fma(n, number(-1.42860682030941723212e-6), r)
    p = number(EXP[0])
    for c in EXP[1:]:
        p = fma(p, r, number(c))
    p = fma(p, b.fmul(r, r), b.fadd(r, number(1.0)))
    if not whole:
        return b.fmul(p, power_of_two(b.bitcast(shifted, words)))
    exponent = b.sub(b.bitcast(shifted, words), b.bitcast(number(ROUND), words))
    half = b.ashr(exponent, filled(words, 1))
    return b.fmul(b.fmul(p, power_of_two(half)), power_of_two(b.sub(exponent, half)))


@elementwise()
def exp(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """exp(x); 0 below -87.68, inf above 88.37, NaN of NaN. Within 1.5 ulp."""
    return emit_exp(b, vector, x, whole=False)


def emit_sigmoid(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """1 / (1 + exp(-x)), of one register: by e = exp(-|x|), which does not overflow, 1 / (1 + e) or e / (1 + e)."""
    one, size = _number(vector, 1.0), call_llvm(b, f"llvm.fabs.v{vector.count}f32", vector, x)
    e = emit_exp(b, vector, b.fneg(size), whole=True)
    return b.fdiv(b.select(b.fcmp_ordered("<", x, filled(vector, 0.0)), e, one), b.fadd(one, e))


@elementwise()
def sigmoid(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """1 / (1 + exp(-x))."""
    return emit_sigmoid(b, vector, x)


@elementwise()
def where_zero(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """y where x is 0, else x."""
    return b.select(b.fcmp_ordered("==", x, filled(vector, 0.0)), y, x)


@elementwise()
def exchanged(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """x with the two numbers of each pair exchanged."""
    order = ir.Constant(ir.VectorType(I32, vector.count), [i ^ 1 for i in range(vector.count)])
    return b.shuffle_vector(x, x, order)


@instruction(lambda at, registers: void(address, registers))
def store_first(builder: ir.IRBuilder, signature: Any, at: ir.Value, value: ir.Value) -> None:
    """store_first(address, registers): the first element, an f32."""
    x = builder.extract_element(signature.args[1].extract(builder, value, 0, 0), I32(0))
    builder.store(x, builder.inttoptr(at, x.type.as_pointer()), align=4)


@instruction(int64)
def first_as_int(builder: ir.IRBuilder, signature: Any, value: ir.Value) -> ir.Value:
    """first_as_int(registers): the first element, an integer, as one."""
    x = builder.extract_element(signature.args[0].extract(builder, value, 0, 0), I32(0))
    return builder.fptosi(x, ir.IntType(64))


@instruction(lambda at, registers: void(address, registers))
def store_codes(builder: ir.IRBuilder, signature: Any, at: ir.Value, value: ir.Value) -> None:
    """store_codes(address, registers): sixteen integers of -128 to 127, a byte each."""
    registers = signature.args[1]
    for col in range(registers.cols):
        words = builder.fptosi(registers.extract(builder, value, 0, col), ir.VectorType(I32, registers.lanes))
        codes = builder.trunc(words, ir.VectorType(ir.IntType(8), registers.lanes))
        place = builder.add(at, at.type(col * registers.lanes))
        builder.store(codes, builder.inttoptr(place, codes.type.as_pointer()), align=1)


def first(rest: float) -> Intrinsic:
    """first(registers, count): the first `count` of sixteen f32, and then `rest`."""

    @instruction(lambda registers, count: registers(registers, int64))
    def first_of_sixteen(builder: ir.IRBuilder, signature: Any, value: ir.Value, count: ir.Value) -> ir.Value:
        registers = signature.return_type

        def one(row: int, col: int) -> ir.Value:
            mask, x = _mask(builder, registers.lanes, col, count), registers.extract(builder, value, 0, col)
            return builder.select(mask, x, _number(registers.vector, rest))

        return registers.build(builder, one)

    return first_of_sixteen
