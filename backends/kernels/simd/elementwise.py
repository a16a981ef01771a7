"""Element by element: what each op does with registers, and the loop that they share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit
from numba.core.types import int64, void

from burnish.backends.kernels.elementwise import SCRATCH
from burnish.backends.kernels.simd import functions as g
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.registers import ELEMENTS, I32, Intrinsic, call_llvm, filled, instruction
from burnish.backends.kernels.simd.words import copy_bytes, word

__all__ = ["OPERATIONS", "arguments", "functions"]

Emit = Callable[..., ir.Value]  # (builder, LLVM's type of the result's register, the operands' registers)


def arguments() -> list[str]:
    """The units of OPERATIONS."""
    return list(OPERATIONS)


def functions(isa: Instructions, unit: str) -> dict[str, Callable[..., Any]]:
    """Those of a unit of OPERATIONS. An item is some rows of the last axis, at equal distances."""
    width = (g.REGISTERS if unit in ("activations", "functions") else 4) * isa.lanes
    return {name: _loop(elements.split(), emit, width) for name, (elements, emit) in OPERATIONS[unit].items()}


SIZES = {"f32": 4, "i32": 4, "f16": 2, "bf16": 2, "bool": 1}  # bytes


def _loop(elements: list[str], emit: Emit, width: int) -> Callable[..., Any]:
    """The function of an op on operands of these element types, the result's the last of them; `width` at a time."""
    arity, (x_size, y_size, z_size), out_size = len(elements) - 1, _sizes(elements), SIZES[elements[-1]]
    x_row, y_row, z_row = _row(x_size, width), _row(y_size, width), _row(z_size, width)
    some, slot = _some(elements, emit, width), SCRATCH // 4

    def run(a: int, begin: int, end: int, scratch: int) -> None:
        """out, bytes between items, and between rows of one, rows of an item, elements of a row; and of each operand:
        its address, bytes between items, rows, elements (0 for one that stands for a row's)"""
        out, item_step, row_step, rows, n = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        x_step = word(a + 64)
        y_step = word(a + 96) if arity > 1 else 0
        z_step = word(a + 128) if arity > 2 else 0
        whole, result, y_slot, z_slot = n & -width, scratch, scratch + slot, scratch + 2 * slot
        x_slot = scratch + 3 * slot
        for i in range(begin, end):
            for k in range(rows):
                to, y, z = out + i * item_step + k * row_step, 0, 0
                x = x_row(a + 40, i, k, x_slot)
                if arity > 1:
                    y = y_row(a + 72, i, k, y_slot)
                if arity > 2:
                    z = z_row(a + 104, i, k, z_slot)
                for j in range(0, whole, width):
                    some(to + j * out_size, x + j * x_step, y + j * y_step, z + j * z_step)
                rest = n - whole
                if rest:
                    if x_step:
                        copy_bytes(x_slot, x + whole * x_size, rest * x_size)
                    if y_step:
                        copy_bytes(y_slot, y + whole * y_size, rest * y_size)
                    if z_step:
                        copy_bytes(z_slot, z + whole * z_size, rest * z_size)
                    some(result, x_slot, y_slot, z_slot)
                    copy_bytes(to + whole * out_size, result, rest * out_size)

    return run


def _sizes(elements: list[str]) -> list[int]:
    return [*[SIZES[e] for e in elements[:-1]], 1, 1][:3]


@functools.cache
def _row(size: int, width: int) -> Callable[..., Any]:
    """row(address of an operand's arguments, item, row, slot): where it begins; of one number, the slot, full of it."""

    @njit(nogil=True)
    def row(a: int, item: int, k: int, slot: int) -> Any:
        at = word(a) + item * word(a + 8) + k * word(a + 16)
        if word(a + 24) != 0:
            return at
        for to in range(slot, slot + width * size, size):
            copy_bytes(to, at, size)
        return slot

    return row


def _some(elements: list[str], emit: Emit, width: int) -> Intrinsic:
    """some(to, x, y, z): the op on `width` elements at each address that it has an operand for."""
    *operands, result = elements
    vector = ir.VectorType(I32 if result in WHOLE else ELEMENTS["f32"], width)

    @instruction(lambda to, x, y, z: void(int64, int64, int64, int64))
    def some(builder: ir.IRBuilder, signature: Any, to: ir.Value, x: ir.Value, y: ir.Value, z: ir.Value) -> None:
        def place(at: ir.Value, element: str) -> ir.Value:
            return builder.inttoptr(at, ir.VectorType(STORED[element], width).as_pointer())

        values = [
            _loaded(builder, builder.load(place(at, e), align=SIZES[e]), e)
            for at, e in zip((x, y, z), operands, strict=False)
        ]
        builder.store(_stored(builder, emit(builder, vector, *values), result), place(to, result), align=SIZES[result])

    return some


# In registers, floats are f32, and integers and bool (0 or 1) are i32.
WHOLE = ("i32", "bool")
STORED = {**ELEMENTS, "bool": ir.IntType(8), "bf16": ir.IntType(16)}


def _loaded(b: ir.IRBuilder, x: ir.Value, element: str) -> ir.Value:
    words, floats = (ir.VectorType(ELEMENTS[e], x.type.count) for e in ("i32", "f32"))
    if element == "bool":
        return b.zext(x, words)
    if element == "f16":
        return b.fpext(x, floats)
    return b.bitcast(b.shl(b.zext(x, words), filled(words, 16)), floats) if element == "bf16" else x


def _stored(b: ir.IRBuilder, x: ir.Value, element: str) -> ir.Value:
    storage, words = (ir.VectorType(e, x.type.count) for e in (STORED[element], I32))
    if element == "bool":
        return b.trunc(x, storage)
    if element == "f16":
        return b.fptrunc(x, storage)
    if element != "bf16":
        return x
    bits = b.bitcast(x, words)
    odd = b.and_(b.lshr(bits, filled(words, 16)), filled(words, 1))
    rounded = b.add(bits, b.add(odd, filled(words, 0x7FFF)))  # halves to the even one
    quiet = b.or_(bits, filled(words, 1 << 22))  # a NaN stays one
    return b.trunc(b.lshr(b.select(b.fcmp_unordered("uno", x, x), quiet, rounded), filled(words, 16)), storage)


# What each op does. v is the type of the result's register.


def _fcompare(comparison: str) -> Emit:
    return lambda b, v, x, y: b.zext(b.fcmp_ordered(comparison, x, y), v)


def _icompare(comparison: str) -> Emit:
    return lambda b, v, x, y: b.zext(b.icmp_signed(comparison, x, y), v)


def _llvm(name: str) -> Emit:
    return lambda b, v, *x: call_llvm(b, f"llvm.{name}.v{v.count}f32", v, *x)


def _extreme(comparison: str) -> Emit:
    """x where it compares so with y, else y; NaN where either is one."""

    def emit(b: ir.IRBuilder, v: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
        return b.select(b.or_(b.fcmp_ordered(comparison, x, y), b.fcmp_unordered("uno", x, x)), x, y)

    return emit


def _where(b: ir.IRBuilder, v: ir.VectorType, condition: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.icmp_signed("!=", condition, filled(condition.type, 0)), x, y)


def _relu(b: ir.IRBuilder, v: ir.VectorType, x: ir.Value) -> ir.Value:
    return b.select(b.fcmp_ordered("<", x, filled(v, 0.0)), filled(v, 0.0), x)


def _same(b: ir.IRBuilder, v: ir.VectorType, x: ir.Value) -> ir.Value:
    return x


def _inverse(b: ir.IRBuilder, v: ir.VectorType, x: ir.Value) -> ir.Value:
    return b.fdiv(filled(v, 1.0), x)


def _integer_division(b: ir.IRBuilder, v: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """Towards 0; 0 where y is."""
    zero = filled(v, 0)
    quotient = b.select(b.icmp_signed("==", y, filled(v, -1)), b.sub(zero, x), b.sdiv(x, _divisor(b, v, y)))
    return b.select(b.icmp_signed("==", y, zero), zero, quotient)


def _modulo(b: ir.IRBuilder, v: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """Of y's sign; 0 where y is."""
    zero = filled(v, 0)
    rest = b.srem(x, _divisor(b, v, y))
    other_sign = b.and_(b.icmp_signed("!=", rest, zero), b.icmp_signed("<", b.xor(rest, y), zero))
    return b.select(other_sign, b.add(rest, y), rest)


def _divisor(b: ir.IRBuilder, v: ir.VectorType, y: ir.Value) -> ir.Value:
    """y, or 1 in the place of 0 and -1, for which x86 stops the program."""
    trap = b.or_(b.icmp_signed("==", y, filled(v, 0)), b.icmp_signed("==", y, filled(v, -1)))
    return b.select(trap, filled(v, 1), y)


def _to_i32(b: ir.IRBuilder, v: ir.VectorType, x: ir.Value) -> ir.Value:
    """Towards 0, at the ends to the nearest that there is, 0 of NaN."""
    return call_llvm(b, f"llvm.fptosi.sat.v{v.count}i32.v{v.count}f32", v, x)


def _float_to_bool(b: ir.IRBuilder, v: ir.VectorType, x: ir.Value) -> ir.Value:
    return b.zext(b.fcmp_unordered("!=", x, filled(x.type, 0.0)), v)


def _int_to_bool(b: ir.IRBuilder, v: ir.VectorType, x: ir.Value) -> ir.Value:
    return b.zext(b.icmp_signed("!=", x, filled(x.type, 0)), v)


#: by unit and name: the element types of the operands and of the result, and what is emitted for a register
OPERATIONS: dict[str, dict[str, tuple[str, Emit]]] = {
    "arithmetic": {
        "add.f32": ("f32 f32 f32", lambda b, v, x, y: b.fadd(x, y)),
        "sub.f32": ("f32 f32 f32", lambda b, v, x, y: b.fsub(x, y)),
        "mul.f32": ("f32 f32 f32", lambda b, v, x, y: b.fmul(x, y)),
        "div.f32": ("f32 f32 f32", lambda b, v, x, y: b.fdiv(x, y)),
        "fma.f32": ("f32 f32 f32 f32", _llvm("fma")),
        "neg.f32": ("f32 f32", lambda b, v, x: b.fneg(x)),
    },
    "activations": {
        "relu.f32": ("f32 f32", _relu),
        "silu.f32": ("f32 f32", g.silu),
        "sigmoid.f32": ("f32 f32", g.sigmoid),
        "gelu.f32": ("f32 f32", g.gelu),
        "gelu_tanh.f32": ("f32 f32", g.gelu_tanh),
        "tanh.f32": ("f32 f32", g.tanh),
        "maximum.f32": ("f32 f32 f32", _extreme(">")),
        "minimum.f32": ("f32 f32 f32", _extreme("<")),
    },
    "functions": {
        "abs.f32": ("f32 f32", _llvm("fabs")),
        "sqrt.f32": ("f32 f32", _llvm("sqrt")),
        "rsqrt.f32": ("f32 f32", lambda b, v, x: _inverse(b, v, _llvm("sqrt")(b, v, x))),
        "reciprocal.f32": ("f32 f32", _inverse),
        "exp.f32": ("f32 f32", g.exp),
        "log.f32": ("f32 f32", g.log),
        "sin.f32": ("f32 f32", g.sin),
        "cos.f32": ("f32 f32", g.cos),
        "erf.f32": ("f32 f32", g.erf),
        "softplus.f32": ("f32 f32", g.softplus),
        "pow.f32": ("f32 f32 f32", g.pow),
    },
    "choices": {
        "equal.f32": ("f32 f32 bool", _fcompare("==")),
        "less.f32": ("f32 f32 bool", _fcompare("<")),
        "less_or_equal.f32": ("f32 f32 bool", _fcompare("<=")),
        "isnan.f32": ("f32 bool", lambda b, v, x: b.zext(b.fcmp_unordered("uno", x, x), v)),
        "where.f32": ("bool f32 f32 f32", _where),
        "equal.bool": ("bool bool bool", _icompare("==")),
        "logical_and.bool": ("bool bool bool", lambda b, v, x, y: b.and_(x, y)),
        "logical_or.bool": ("bool bool bool", lambda b, v, x, y: b.or_(x, y)),
        "logical_not.bool": ("bool bool", lambda b, v, x: b.xor(x, filled(v, 1))),
        "where.bool": ("bool bool bool bool", _where),
    },
    "integers": {
        "add.i32": ("i32 i32 i32", lambda b, v, x, y: b.add(x, y)),
        "sub.i32": ("i32 i32 i32", lambda b, v, x, y: b.sub(x, y)),
        "mul.i32": ("i32 i32 i32", lambda b, v, x, y: b.mul(x, y)),
        "div.i32": ("i32 i32 i32", _integer_division),
        "mod.i32": ("i32 i32 i32", _modulo),
        "maximum.i32": ("i32 i32 i32", lambda b, v, x, y: b.select(b.icmp_signed(">", x, y), x, y)),
        "minimum.i32": ("i32 i32 i32", lambda b, v, x, y: b.select(b.icmp_signed("<", x, y), x, y)),
        "equal.i32": ("i32 i32 bool", _icompare("==")),
        "less.i32": ("i32 i32 bool", _icompare("<")),
        "less_or_equal.i32": ("i32 i32 bool", _icompare("<=")),
        "where.i32": ("bool i32 i32 i32", _where),
    },
    "casts": {
        "cast.i32.f32": ("i32 f32", lambda b, v, x: b.sitofp(x, v)),
        "cast.bool.f32": ("bool f32", lambda b, v, x: b.sitofp(x, v)),
        "cast.f16.f32": ("f16 f32", _same),
        "cast.bf16.f32": ("bf16 f32", _same),
        "cast.f32.f16": ("f32 f16", _same),
        "cast.f32.bf16": ("f32 bf16", _same),
        "cast.f32.i32": ("f32 i32", _to_i32),
        "cast.bool.i32": ("bool i32", _same),
        "cast.f32.bool": ("f32 bool", _float_to_bool),
        "cast.i32.bool": ("i32 bool", _int_to_bool),
    },
}
