"""Words of 64 bits at addresses, and what threads do with them, for compiled code."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core.types import float32, int64, void

from burnish.backends.kernels.simd.registers import Intrinsic, call_llvm, instruction

__all__ = [
    "add_word", "address_of", "byte_at", "call", "clear_bytes", "copy_bytes", "copy_element", "exchange", "f32_at",
    "i32_at", "load_word", "pause", "sleep", "store_f32", "store_i32", "store_word", "word", "zero_bytes",
]  # fmt: skip

I32, I64 = ir.IntType(32), ir.IntType(64)
FUNCTION = ir.FunctionType(I64, [I64] * 4)


def _at(builder: ir.IRBuilder, address: ir.Value, to: ir.Type = I64) -> ir.Value:
    return builder.inttoptr(address, to.as_pointer())


@instruction(lambda at: int64(int64))
def word(builder: ir.IRBuilder, signature: Any, at: ir.Value) -> ir.Value:
    """word(address): an argument."""
    return builder.load(_at(builder, at), align=8)


@instruction(lambda at: int64(int64))
def i32_at(builder: ir.IRBuilder, signature: Any, at: ir.Value) -> ir.Value:
    """i32_at(address), as 64 bits."""
    return builder.sext(builder.load(_at(builder, at, I32), align=4), I64)


@instruction(lambda at, value: void(int64, int64))
def store_i32(builder: ir.IRBuilder, signature: Any, at: ir.Value, value: ir.Value) -> None:
    """store_i32(address, value)."""
    builder.store(builder.trunc(value, I32), _at(builder, at, I32), align=4)


@instruction(lambda at: float32(int64))
def f32_at(builder: ir.IRBuilder, signature: Any, at: ir.Value) -> ir.Value:
    """f32_at(address)."""
    return builder.load(_at(builder, at, ir.FloatType()), align=4)


@instruction(lambda at, value: void(int64, float32))
def store_f32(builder: ir.IRBuilder, signature: Any, at: ir.Value, value: ir.Value) -> None:
    """store_f32(address, value)."""
    builder.store(value, _at(builder, at, ir.FloatType()), align=4)


@instruction(lambda at: int64(int64))
def load_word(builder: ir.IRBuilder, signature: Any, at: ir.Value) -> ir.Value:
    """load_word(address): what other threads write."""
    return builder.load_atomic(_at(builder, at), "acquire", 8)


@instruction(lambda at, value: void(int64, int64))
def store_word(builder: ir.IRBuilder, signature: Any, at: ir.Value, value: ir.Value) -> None:
    """store_word(address, value), for other threads to read."""
    builder.store_atomic(value, _at(builder, at), "release", 8)


@instruction(lambda at, value: int64(int64, int64))
def add_word(builder: ir.IRBuilder, signature: Any, at: ir.Value, value: ir.Value) -> ir.Value:
    """add_word(address, value): what was there."""
    return builder.atomic_rmw("add", _at(builder, at), value, "seq_cst")


@instruction(lambda at, old, new: int64(int64, int64, int64))
def exchange(builder: ir.IRBuilder, signature: Any, at: ir.Value, old: ir.Value, new: ir.Value) -> ir.Value:
    """exchange(address, old, new): put `new` where `old` is; what was there."""
    return builder.extract_value(builder.cmpxchg(_at(builder, at), old, new, "seq_cst", "seq_cst"), 0)


@instruction(lambda function, *given: int64(int64, int64, int64, int64, int64))
def call(
    builder: ir.IRBuilder, signature: Any, function: ir.Value, a: ir.Value, b: ir.Value, c: ir.Value, d: ir.Value
) -> ir.Value:
    """call(address of a function, its four arguments): 0 of one that is compiled so, or what another gives."""
    return builder.call(_at(builder, function, FUNCTION), [a, b, c, d])


def address_of(name: str) -> Intrinsic:
    """address_of(name)(): of a function of this unit, of the C library, or that the unit is bound to."""

    @instruction(int64)
    def address(builder: ir.IRBuilder, signature: Any) -> ir.Value:
        function = builder.module.globals.get(name) or ir.Function(builder.module, FUNCTION, name)
        return builder.ptrtoint(function, I64)

    return address


@instruction(void)
def pause(builder: ir.IRBuilder, signature: Any) -> None:
    """Let the other thread of a core go first."""
    call_llvm(builder, "llvm.x86.sse2.pause", ir.VoidType())


@instruction(void)
def sleep(builder: ir.IRBuilder, signature: Any) -> None:
    """Give the core to whoever wants it."""
    module = builder.module
    kind = ir.FunctionType(I32, [])
    function = module.globals.get("sched_yield") or ir.Function(module, kind, "sched_yield")
    builder.call(function, [])


@instruction(lambda to, at, size: void(int64, int64, int64))
def copy_bytes(builder: ir.IRBuilder, signature: Any, to: ir.Value, at: ir.Value, size: ir.Value) -> None:
    """copy_bytes(to, from, count): they do not overlap."""
    byte = ir.IntType(8)
    call_llvm(
        builder, "llvm.memcpy.p0.p0.i64", ir.VoidType(), _at(builder, to, byte), _at(builder, at, byte), size,
        ir.IntType(1)(0),
    )  # fmt: skip


@instruction(lambda to, at, size: void(int64, int64, int64))
def copy_element(builder: ir.IRBuilder, signature: Any, to: ir.Value, at: ir.Value, size: ir.Value) -> None:
    """copy_element(to, from, count): as `copy_bytes`, of four bytes most often."""
    with builder.if_else(builder.icmp_signed("==", size, I64(4)), likely=True) as (four, other):
        with four:
            builder.store(builder.load(_at(builder, at, I32), align=1), _at(builder, to, I32), align=1)
        with other:
            byte = ir.IntType(8)
            call_llvm(
                builder, "llvm.memcpy.p0.p0.i64", ir.VoidType(), _at(builder, to, byte), _at(builder, at, byte), size,
                ir.IntType(1)(0),
            )  # fmt: skip


@instruction(lambda to, size: void(int64, int64))
def clear_bytes(builder: ir.IRBuilder, signature: Any, to: ir.Value, size: ir.Value) -> None:
    """clear_bytes(to, count): they are zeros then."""
    byte = ir.IntType(8)
    call_llvm(
        builder, "llvm.memset.p0.i64", ir.VoidType(), _at(builder, to, byte), byte(0), size, ir.IntType(1)(0),
    )  # fmt: skip


@instruction(lambda at: int64(int64))
def byte_at(builder: ir.IRBuilder, signature: Any, at: ir.Value) -> ir.Value:
    """byte_at(address), 0 to 255."""
    return builder.zext(builder.load(_at(builder, at, ir.IntType(8)), align=1), I64)


@instruction(lambda at, size: void(int64, int64))
def zero_bytes(builder: ir.IRBuilder, signature: Any, at: ir.Value, size: ir.Value) -> None:
    """zero_bytes(address, count)."""
    byte = ir.IntType(8)
    call_llvm(builder, "llvm.memset.p0.i64", ir.VoidType(), _at(builder, at, byte), byte(0), size, ir.IntType(1)(0))
