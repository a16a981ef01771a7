"""SIMD registers as Numba values, in blocks that broadcast as NumPy arrays do.

A `Registers` value is rows × cols registers. `dot4(sums[R, N], weights[R, 1], inputs[1, N])` is R*N instructions, so
one source of a kernel is matrix-vector (N = 1) and matrix-matrix, on every instruction set. An operation is a function
that emits LLVM code for one register, under `@elementwise`.

Operations are called in compiled code only. Addresses are integers, and strides are bytes. Nothing here checks them:
the caller has.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel
from numba.core.types import int64, void
from numba.extending import intrinsic, register_model

__all__ = [
    "Intrinsic", "Registers", "add", "bits", "call_llvm", "constant", "either", "elementwise", "every_lane", "filled",
    "fma", "instruction", "load", "load_block", "multiply", "pin", "pointer_to", "prefetch", "same", "splat", "store",
    "subtract", "take", "times", "to_f32", "to_i32", "unsigned_to_f32", "zeros",
]  # fmt: skip

Intrinsic = Callable[..., Any]  # a function that only compiled code calls
Emit = Callable[..., ir.Value]

ELEMENTS = {
    "i8": ir.IntType(8),
    "i16": ir.IntType(16),
    "i32": ir.IntType(32),
    "f16": ir.HalfType(),
    "f32": ir.FloatType(),
}
I32 = ELEMENTS["i32"]
ALIGN = 4  # bytes: what the kernels' data has at the least
address = int64


class Registers(types.Type):
    """rows × cols registers, each of `lanes` elements; `element` is a key of ELEMENTS. In LLVM, an array of vectors."""

    def __init__(self, element: str, lanes: int, rows: int = 1, cols: int = 1) -> None:
        self.element, self.lanes, self.rows, self.cols = element, lanes, rows, cols
        super().__init__(f"{element}x{lanes}[{rows},{cols}]")

    @property
    def vector(self) -> ir.VectorType:
        """LLVM's type of one register."""
        return ir.VectorType(ELEMENTS[self.element], self.lanes)

    @property
    def count(self) -> int:
        """The number of registers."""
        return self.rows * self.cols

    def build(self, builder: ir.IRBuilder, one: Callable[[int, int], ir.Value]) -> ir.Value:
        """The value whose register at (row, col) is one(row, col)."""
        value = ir.Constant(ir.ArrayType(self.vector, self.count), ir.Undefined)
        for i in range(self.count):
            value = builder.insert_value(value, one(*divmod(i, self.cols)), i)
        return value

    def extract(self, builder: ir.IRBuilder, value: ir.Value, row: int, col: int) -> ir.Value:
        """The register of `value` at (row, col), where a single row or column stands for all."""
        return builder.extract_value(value, row % self.rows * self.cols + col % self.cols)


@register_model(Registers)
class _RegistersModel(PrimitiveModel):
    def __init__(self, manager: Any, registers: Registers) -> None:
        vectors = ir.ArrayType(registers.vector, registers.count)
        super().__init__(manager, registers, vectors)  # type: ignore[no-untyped-call]  # Numba's own has no types


# How operations are written


def instruction(typing: Callable[..., Any]) -> Callable[[Emit], Intrinsic]:
    """Make an operation of emit(builder, signature, *values), which emits LLVM code and returns the result, if any.

    `typing` makes Numba's signature of the operands' types.
    """

    def decorate(emit: Emit) -> Intrinsic:
        def definition(context: Any, *operands: types.Type) -> Any:
            def lower(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[ir.Value]) -> ir.Value:
                value = emit(builder, signature, *values)
                return context.get_dummy_value() if value is None else value

            return typing(*operands), lower

        # Numba counts the operands here: all parameters but the first, the context.
        parameters = list(inspect.signature(emit).parameters.values())[1:]
        definition.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # any function has room
        return intrinsic(definition)

    return decorate


def elementwise(element: str = "", lanes: int = 0) -> Callable[[Emit], Intrinsic]:
    """Make an operation on Registers of emit(builder, vector, *operands), which emits it for one register.

    `vector` is LLVM's type of a register of the result: `element` and `lanes`, where given, and else those of the
    first operand. Rows and columns broadcast.
    """

    def decorate(emit: Emit) -> Intrinsic:
        def typing(*given: Registers) -> Any:
            rows, cols = max(r.rows for r in given), max(r.cols for r in given)
            if any(r.rows not in (1, rows) or r.cols not in (1, cols) for r in given):
                raise TypeError(f"{emit.__name__}: {', '.join(map(str, given))} do not broadcast")
            return Registers(element or given[0].element, lanes or given[0].lanes, rows, cols)(*given)

        @functools.wraps(emit)
        def emit_all(builder: ir.IRBuilder, signature: Any, *values: ir.Value) -> ir.Value:
            operands, result = signature.args, signature.return_type

            def one(row: int, col: int) -> ir.Value:
                registers = [r.extract(builder, v, row, col) for r, v in zip(operands, values, strict=True)]
                return emit(builder, result.vector, *registers)

            return result.build(builder, one)

        return instruction(typing)(emit_all)

    return decorate


def filled(vector: ir.VectorType, element: float) -> ir.Value:
    """A constant register with `element` in every lane."""
    return ir.Constant(vector, [element] * vector.count)


def call_llvm(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    """Call LLVM's intrinsic `name` (of LLVM, or of one CPU: "llvm.x86.…")."""
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(result, [a.type for a in arguments]), name)
    return builder.call(function, arguments)


def pointer_to(builder: ir.IRBuilder, to: ir.Type, at: ir.Value, *steps: tuple[int, ir.Value]) -> ir.Value:
    """The pointer to `to` at the address `at` + the sum of index * bytes over `steps`."""
    for index, between in steps:
        at = builder.add(at, builder.mul(between, between.type(index)))
    return builder.inttoptr(at, to.as_pointer())


# Values in and out


def load(element: str, lanes: int, rows: int = 1) -> Intrinsic:
    """load(address, stride) -> Registers[rows, 1], each row's elements `stride` bytes after the last's."""
    registers = Registers(element, lanes, rows)

    @instruction(lambda at, stride: registers(address, int64))
    def load_rows(builder: ir.IRBuilder, signature: Any, at: ir.Value, stride: ir.Value) -> ir.Value:
        def one(row: int, col: int) -> ir.Value:
            return builder.load(pointer_to(builder, registers.vector, at, (row, stride)), align=ALIGN)

        return registers.build(builder, one)

    return load_rows


def load_block(element: str, lanes: int, rows: int, cols: int) -> Intrinsic:
    """load_block(address, bytes between rows, bytes between columns) -> Registers[rows, cols], what `store` stored."""
    registers = Registers(element, lanes, rows, cols)

    @instruction(lambda at, row_stride, col_stride: registers(address, int64, int64))
    def load_rows_and_columns(
        builder: ir.IRBuilder, signature: Any, at: ir.Value, row_stride: ir.Value, col_stride: ir.Value
    ) -> ir.Value:
        def one(row: int, col: int) -> ir.Value:
            pointer = pointer_to(builder, registers.vector, at, (row, row_stride), (col, col_stride))
            return builder.load(pointer, align=ALIGN)

        return registers.build(builder, one)

    return load_rows_and_columns


def splat(element: str, lanes: int, cols: int) -> Intrinsic:
    """splat(address, stride) -> Registers[1, cols], each column one 32-bit element in every lane, `stride` bytes after
    the last's.
    """
    registers = Registers(element, lanes, 1, cols)

    @instruction(lambda at, stride: registers(address, int64))
    def splat_columns(builder: ir.IRBuilder, signature: Any, at: ir.Value, stride: ir.Value) -> ir.Value:
        def one(row: int, col: int) -> ir.Value:
            pointer = pointer_to(builder, registers.vector.element, at, (col, stride))
            return every_lane(builder, registers.vector, builder.load(pointer, align=ALIGN))

        return registers.build(builder, one)

    return splat_columns


def every_lane(builder: ir.IRBuilder, vector: ir.VectorType, element: ir.Value) -> ir.Value:
    """A register with a value in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, element, I32(0))
    return builder.shuffle_vector(first, undefined, filled(ir.VectorType(I32, vector.count), 0))


def zeros(element: str, lanes: int, rows: int = 1, cols: int = 1) -> Intrinsic:
    """zeros() -> Registers[rows, cols]."""
    registers = Registers(element, lanes, rows, cols)

    @instruction(registers)
    def zero_registers(builder: ir.IRBuilder, signature: Any) -> ir.Value:
        return ir.Constant(ir.ArrayType(registers.vector, registers.count), None)

    return zero_registers


def constant(element: str, lanes: int, value: float) -> Intrinsic:
    """constant() -> Registers[1, 1] with `value` in every lane."""
    registers = Registers(element, lanes)

    @instruction(registers)
    def constant_register(builder: ir.IRBuilder, signature: Any) -> ir.Value:
        return registers.build(builder, lambda row, col: filled(registers.vector, value))

    return constant_register


@instruction(lambda at, row_stride, col_stride, registers: void(address, int64, int64, registers))
def store(
    builder: ir.IRBuilder, signature: Any, at: ir.Value, row_stride: ir.Value, col_stride: ir.Value, value: ir.Value
) -> None:
    """store(address, bytes between rows, bytes between columns, registers)."""
    registers = signature.args[3]
    for row in range(registers.rows):
        for col in range(registers.cols):
            pointer = pointer_to(builder, registers.vector, at, (row, row_stride), (col, col_stride))
            builder.store(registers.extract(builder, value, row, col), pointer, align=ALIGN)


# What LLVM would not do by itself


def prefetch(size: int, rows: int, near: bool = True) -> Intrinsic:
    """prefetch(address, stride): ask for the cache lines of `size` bytes there, and of as many `stride` bytes further,
    `rows` times, in the nearest cache or in the next. Any address will do, a wild one too.
    """

    @instruction(lambda at, stride: void(address, int64))
    def prefetch_lines(builder: ir.IRBuilder, signature: Any, at: ir.Value, stride: ir.Value) -> None:
        reading, keep, data = I32(0), I32(3 if near else 1), I32(1)
        for row in range(rows):
            for line in range(0, size, 64):
                pointer = pointer_to(builder, ir.IntType(8), at, (row, stride), (line, at.type(1)))
                call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), pointer, reading, keep, data)

    return prefetch_lines


@instruction(lambda registers: registers(registers))
def pin(builder: ir.IRBuilder, signature: Any, value: ir.Value) -> ir.Value:
    """pin(registers): the same, at a point that LLVM moves no work across.

    Left alone it unrolls and reorders a block of sums until they spill: this is worth 25% to 35% there.
    """
    # Empty assembly that claims to change the registers and all memory.
    registers = signature.return_type
    count, vector = registers.count, registers.vector
    result = ir.LiteralStructType([vector] * count) if count > 1 else vector
    constraints = ["=v"] * count + [str(i) for i in range(count)] + ["~{memory}"]
    inputs = [builder.extract_value(value, i) for i in range(count)]
    function = ir.FunctionType(result, [vector] * count)
    pinned = builder.asm(function, "", ",".join(constraints), inputs, side_effect=True)

    def one(row: int, col: int) -> ir.Value:
        return builder.extract_value(pinned, row * registers.cols + col) if count > 1 else pinned

    return registers.build(builder, one)


@instruction(lambda counter, count: int64(address, int64))
def take(builder: ir.IRBuilder, signature: Any, counter: ir.Value, count: ir.Value) -> ir.Value:
    """take(address of an i64, count): the number there, which grows by `count`; no two threads get the same."""
    return builder.atomic_rmw("add", builder.inttoptr(counter, count.type.as_pointer()), count, "seq_cst")


# Operations


@elementwise()
def same(builder: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """x."""
    return x


@elementwise()
def add(builder: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """x + y, of integers."""
    return builder.add(x, y)


@elementwise()
def subtract(builder: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """x - y, of integers."""
    return builder.sub(x, y)


@elementwise()
def times(builder: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """x * y, of integers."""
    return builder.mul(x, y)


@elementwise("i32")
def to_i32(builder: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """i32 of unsigned bytes."""
    return builder.zext(x, vector)


@elementwise()
def multiply(builder: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """x * y, of floats."""
    return builder.fmul(x, y)


@elementwise()
def fma(builder: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    """x * y + z, of f32, rounded once."""
    return call_llvm(builder, f"llvm.fma.v{vector.count}f32", vector, x, y, z)


@elementwise("f32")
def to_f32(builder: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """f32 of floats or of signed integers."""
    if x.type == vector:
        return x
    return builder.fpext(x, vector) if x.type.element == ELEMENTS["f16"] else builder.sitofp(x, vector)


@elementwise("f32")
def unsigned_to_f32(builder: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """f32 of unsigned integers."""
    return builder.uitofp(x, vector)


@elementwise()
def either(builder: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """The bits of both."""
    return builder.or_(x, y)


def bits(width: int, low: int = 0) -> Intrinsic:
    """bits(registers, shift) -> `width` bits of each byte, from bit `shift` up, as bits from `low` up.

    `shift` is an integer, the same for all: a constant once LLVM has unrolled a loop.
    """

    @instruction(lambda registers, shift: registers(registers, int64))
    def bits_at(builder: ir.IRBuilder, signature: Any, value: ir.Value, shift: ir.Value) -> ir.Value:
        registers = signature.return_type
        words = ir.VectorType(I32, registers.lanes // 4)  # x86 shifts no bytes
        mask = filled(words, 0x01010101 * ((1 << width) - 1))
        first = builder.insert_element(ir.Constant(words, ir.Undefined), builder.trunc(shift, I32), I32(0))
        by = builder.shuffle_vector(first, ir.Constant(words, ir.Undefined), filled(words, 0))

        def one(row: int, col: int) -> ir.Value:
            word = builder.bitcast(registers.extract(builder, value, row, col), words)
            word = builder.and_(builder.lshr(word, by), mask)
            return builder.bitcast(builder.shl(word, filled(words, low)), registers.vector)

        return registers.build(builder, one)

    return bits_at
