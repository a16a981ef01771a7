"""Rows of weights as f32: floats of any width, and quantized ones bit for bit as `QuantFormat.dequantize` has them.

The bits of a group's parts that share bytes are first spread over scratch memory, a byte an element; then each run of
inputs is scaled. What is read, and where, follows from the format's parts and its block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core.types import int64, void

from burnish.backends.kernels.simd import floats as f
from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.ir.format import FORMATS, QuantFormat
from burnish.ir.parts import Bits, Bytes, Part, Raw

__all__ = ["RowFunction", "read_row"]

#: read(address of a row, its inputs, the first input, how many, address of f32[how many], scratch): whole groups
RowFunction = Callable[..., Any]
STORED = {"f2": ir.HalfType(), "f4": ir.FloatType(), "u1": ir.IntType(8), "i1": ir.IntType(8)}


class Place(NamedTuple):
    """Where the elements of a part begin: in the block or in scratch memory, at `base` + `by_input` for each input of
    the row."""

    in_block: bool
    base: int
    by_input: int
    negated: bool


def read_row(kind: str, isa: Instructions) -> RowFunction:
    """Compile the function for f32, f16, bf16, or a format that `kernels.stored` does not refuse."""
    if kind in FORMATS:
        return _dequantize_row(FORMATS[kind], isa)
    load, store, size = f.load16(kind, isa.lanes), f.store16(isa.lanes), 4 if kind == "f32" else 2

    @njit(nogil=True)
    def widen(row: int, inputs: int, first: int, count: int, out: int, scratch: int) -> None:
        row += size * first
        for i in range(0, count, 16):
            store(out + 4 * i, count - i, load(row + size * i, count - i))

    return widen


def _dequantize_row(format: QuantFormat, isa: Instructions) -> RowFunction:
    lanes, fixed, fixed_run = isa.lanes, format.group, format.run
    places = _places(format)
    unpack, block_bytes = _unpack(format, places), format.row_bytes(format.group) if fixed else 0
    scale, subscale = _element(format, "scale", places, lanes, 1), _element(format, "subscale", places, lanes, 1)
    minimum, subminimum = (
        _element(format, "minimum", places, lanes, 0),
        _element(format, "subminimum", places, lanes, 1),
    )
    zero, has_minimum = _element(format, "zero", places, lanes, format.zero), format.part("minimum") is not None
    in_block, codes_base, _, _ = places[format.code.name]
    load_codes, store = _load_codes(format.code.dtype, lanes), f.store16(lanes)
    fsub, fadd, multiply = f.fsub, f.fadd, r.multiply

    @njit(nogil=True)
    def dequantize(row: int, inputs: int, first: int, count: int, out: int, scratch: int) -> None:
        group = fixed if fixed else count
        run = fixed_run if fixed_run else group
        block = row + first // fixed * block_bytes if fixed else row
        skipped = 0 if fixed else first
        for _ in range(count // group if group else 0):
            unpack(block, scratch)
            codes = (block if in_block else scratch) + codes_base + skipped
            group_scale, none = scale(block, scratch, inputs, 0), zero(block, scratch, inputs, 0)
            for i in range(group // run):
                step = multiply(group_scale, subscale(block, scratch, inputs, i))
                if has_minimum:
                    least = multiply(minimum(block, scratch, inputs, 0), subminimum(block, scratch, inputs, i))
                for j in range(0, run, 16):
                    x = multiply(step, fsub(load_codes(codes + j, run - j), none))
                    if has_minimum:
                        x = fadd(x, least)
                    store(out + 4 * j, run - j, x)
                codes, out = codes + run, out + 4 * run
            block += block_bytes

    return dequantize


def _places(format: QuantFormat) -> Mapping[str, Place]:
    """Where each part is found: where it stands in the block, if its bytes are its own, or else in scratch memory."""
    places: dict[str, Place] = {}
    at = by_input = spread = 0
    for field in format.fields(format.group):
        if isinstance(field, Bytes):
            at += field.size
            for name in (b.part for b in field.bits):
                if name not in places:
                    places[name] = Place(False, spread, 0, False)
                    spread += format.elements(_part(format, name), format.group)
        else:
            part = _part(format, field.part)
            places[field.part] = Place(True, at, by_input, field.negated)
            size = np.dtype(part.dtype).itemsize
            if format.group:
                at += size * format.elements(part, format.group)
            elif part.per == "input":
                by_input += size
            else:
                at += size
    return places


def _part(format: QuantFormat, name: str) -> Part:
    part = format.part(name)
    assert part is not None
    return part


def _element(format: QuantFormat, name: str, places: Mapping[str, Place], lanes: int, default: float) -> RowFunction:
    """element(block, scratch, inputs of the row, i): element i of a part, or `default`, sixteen times."""
    part = format.part(name)
    if part is None:
        number = f.constant(lanes, default)

        @njit(nogil=True)
        def no_element(block: int, scratch: int, inputs: int, i: int) -> Any:
            return number()

        return no_element
    in_block, base, by_input, negated = places[name]
    splat, size = _splat(part.dtype, lanes, negated), np.dtype(part.dtype).itemsize

    @njit(nogil=True)
    def element(block: int, scratch: int, inputs: int, i: int) -> Any:
        return splat((block if in_block else scratch) + base + by_input * inputs + size * i)

    return element


def _splat(dtype: str, lanes: int, negated: bool) -> r.Intrinsic:
    registers = r.Registers("f32", lanes, 1, 16 // lanes)

    @r.instruction(lambda at: registers(int64))
    def splat(builder: ir.IRBuilder, signature: Any, at: ir.Value) -> ir.Value:
        x = builder.load(builder.inttoptr(at, STORED[dtype].as_pointer()), align=1)
        x = _as_f32(builder, x, dtype, ir.FloatType())
        x = builder.fneg(x) if negated else x
        return registers.build(builder, lambda row, col: r.every_lane(builder, registers.vector, x))

    return splat


def _as_f32(builder: ir.IRBuilder, x: ir.Value, dtype: str, to: ir.Type) -> ir.Value:
    if dtype == "f4":
        return x
    if dtype == "f2":
        return builder.fpext(x, to)
    return builder.sitofp(x, to) if dtype == "i1" else builder.uitofp(x, to)


def _load_codes(dtype: str, lanes: int) -> r.Intrinsic:
    """load_codes(address, count) -> sixteen codes as f32; those from `count` on are zeros, not read."""
    registers = r.Registers("f32", lanes, 1, 16 // lanes)
    sixteen = ir.VectorType(ir.IntType(8), 16)

    @r.instruction(lambda at, count: registers(int64, int64))
    def load_codes(builder: ir.IRBuilder, signature: Any, at: ir.Value, count: ir.Value) -> ir.Value:
        pointer, words = builder.inttoptr(at, sixteen.as_pointer()), ir.VectorType(r.I32, 16)
        with builder.if_else(builder.icmp_signed(">=", count, count.type(16))) as (all_of_them, some):
            with all_of_them:
                whole, whole_block = builder.load(pointer, align=1), builder.block
            with some:
                lane = ir.Constant(words, list(range(16)))
                mask = builder.icmp_signed("<", lane, r.every_lane(builder, words, builder.trunc(count, r.I32)))
                none = ir.Constant(sixteen, None)
                part = r.call_llvm(builder, "llvm.masked.load.v16i8.p0", sixteen, pointer, r.I32(1), mask, none)
                part_block = builder.block
        codes = builder.phi(sixteen)
        codes.add_incoming(whole, whole_block)
        codes.add_incoming(part, part_block)

        def one(row: int, col: int) -> ir.Value:
            some = ir.Constant(ir.VectorType(r.I32, lanes), list(range(col * lanes, (col + 1) * lanes)))
            return _as_f32(builder, builder.shuffle_vector(codes, codes, some), dtype, registers.vector)

        return registers.build(builder, one)

    return load_codes


def _unpack(format: QuantFormat, places: Mapping[str, Place]) -> r.Intrinsic:
    """unpack(block, scratch): the bits that share bytes, a byte for each element of their parts."""

    @r.instruction(lambda block, scratch: void(int64, int64))
    def unpack(builder: ir.IRBuilder, signature: Any, block: ir.Value, scratch: ir.Value) -> None:
        begun: set[tuple[str, int]] = set()  # elements that hold bits already
        at = 0
        for field in format.fields(format.group):
            if isinstance(field, Raw):
                at += np.dtype(_part(format, field.part).dtype).itemsize * format.elements(
                    _part(format, field.part), format.group
                )
                continue
            for start in range(0, field.size, 32):
                size, shift = min(32, field.size - start), 0
                vector = ir.VectorType(ir.IntType(8), size)
                place = builder.add(block, block.type(at + start))
                bytes = builder.load(builder.inttoptr(place, vector.as_pointer()), align=1)
                for bits in field.bits:
                    values = builder.and_(
                        builder.lshr(bytes, r.filled(vector, shift)), r.filled(vector, (1 << bits.width) - 1)
                    )
                    first = bits.first + start * bits.step
                    values = builder.shl(values, r.filled(vector, bits.low))
                    _put(builder, scratch, places[bits.part].base, bits._replace(first=first), values, begun)
                    shift += bits.width
            at += field.size

    return unpack


def _put(
    builder: ir.IRBuilder, scratch: ir.Value, base: int, bits: Bits, values: ir.Value, begun: set[tuple[str, int]]
) -> None:
    """Add bits to elements first, first + step, … of a part, or begin these with them."""
    count, byte = values.type.count, ir.IntType(8)
    elements = {(bits.part, bits.first + i * bits.step) for i in range(count)}
    more = bool(elements & begun)
    assert not more or elements <= begun, "a format that begins some elements of a vector, and not others"
    begun |= elements
    if bits.step == 1:
        pointer = builder.inttoptr(builder.add(scratch, scratch.type(base + bits.first)), values.type.as_pointer())
        values = builder.or_(values, builder.load(pointer, align=1)) if more else values
        builder.store(values, pointer, align=1)
        return
    for i in range(count):
        value = builder.extract_element(values, r.I32(i))
        place = builder.add(scratch, scratch.type(base + bits.first + i * bits.step))
        pointer = builder.inttoptr(place, byte.as_pointer())
        builder.store(builder.or_(value, builder.load(pointer, align=1)) if more else value, pointer, align=1)
