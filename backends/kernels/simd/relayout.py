"""Blocks of a file to tiles, a group of a row at a time: its codes become words, each written into the row's lane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core.types import int64, void

from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.registers import I32, Intrinsic, address, filled, instruction
from burnish.backends.kernels.simd.words import word, zero_bytes
from burnish.backends.kernels.tiles import WORD_INPUTS, offsets
from burnish.ir.format import FORMATS, QuantFormat
from burnish.ir.parts import Raw, slices

__all__ = ["arguments", "functions"]

TOGETHER = 256  # inputs of a row that are laid out before the next row's: of all lanes, they stay in the first cache


def arguments() -> list[str]:
    """The formats that `linear` reads."""
    from burnish.backends.kernels.linear import why_unread

    return [name for name, format in FORMATS.items() if why_unread(format) is None]


def functions(isa: Instructions, argument: str) -> dict[str, Callable[..., Any]]:
    """`tiles8`, `tiles16`: an item is a tile of rows."""
    return {f"tiles{lanes}": _tiles(FORMATS[argument], lanes) for lanes in (8, 16)}


def _tiles(format: QuantFormat, lanes: int) -> Callable[..., Any]:
    move_parts, move_codes, block = _mover(format, lanes)
    whole_groups, size, group_scales = format.group > 0, format.group or WORD_INPUTS, offsets(format, lanes)[""]
    group_codes = 4 * lanes * format.code.width * size // WORD_INPUTS  # bytes
    step, piece = max(TOGETHER // size, 1), block if whole_groups else WORD_INPUTS  # bytes
    prefetch = r.prefetch(step * piece, 1)
    head = block - piece  # bytes before the codes of a row that is one group

    def tiles(a: int, begin: int, end: int, scratch: int) -> None:
        """x, bytes of a row, rows, groups of a row (or 32 inputs, where that is one), tiles of a matrix, codes, bytes
        of a tile's, scales, bytes of a tile's"""
        x, row_bytes, rows, groups, tiles = word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32)
        codes, tile_codes, scales, tile_scales = word(a + 40), word(a + 48), word(a + 56), word(a + 64)
        for item in range(begin, end):
            first = item % tiles * lanes
            count = min(rows - first, lanes)
            at = x + (item // tiles * rows + first) * row_bytes
            c, s = codes + item * tile_codes, scales + item * tile_scales
            if count < lanes:
                zero_bytes(c, tile_codes)
                zero_bytes(s, tile_scales)
            for start in range(0, groups, step):
                stop = min(start + step, groups)
                for lane in range(count):
                    row = at + lane * row_bytes
                    prefetch(
                        row + (start + 2 * step) * piece, 0
                    )  # the lanes are too many streams for the processor's own
                    for i in range(start, stop):
                        if whole_groups or i == 0:
                            move_parts(row + i * piece, s + i * group_scales, lane)
                        move_codes(row + head + i * piece, c + i * group_codes, lane)

    return tiles


def _mover(format: QuantFormat, lanes: int) -> tuple[Intrinsic, Intrinsic, int]:
    """move(address of a group, of a tile's group, lane), of all parts but the codes and of the codes; a group's bytes.

    Where a row is one group, it is taken to be of 32 inputs, and its codes begin at the address.
    """
    size = format.group or WORD_INPUTS
    fields, at = format.fields(size), offsets(format, lanes)
    block = sum(_size(format, f, size) for f in fields)
    alone = not format.group

    @instruction(lambda source, target, lane: void(address, address, int64))
    def move_parts(b: ir.IRBuilder, signature: Any, source: ir.Value, target: ir.Value, lane: ir.Value) -> None:
        for part in format.parts:
            if part is not format.code:
                values = _values(b, format, part.name, source, size)
                width = np.dtype(part.dtype).itemsize
                _spread(b, values, b.add(target, target.type(at[part.name])), lane, width, lanes)

    @instruction(lambda source, target, lane: void(address, address, int64))
    def move_codes(b: ir.IRBuilder, signature: Any, source: ir.Value, target: ir.Value, lane: ir.Value) -> None:
        if alone:
            codes = _loaded(b, source, WORD_INPUTS, ir.IntType(8))
        else:
            codes = _values(b, format, format.code.name, source, size)
        for i in range(size // WORD_INPUTS):
            words = _words(b, _picked(b, codes, range(i * WORD_INPUTS, (i + 1) * WORD_INPUTS)), format.code.width)
            _spread(b, words, b.add(target, target.type(4 * lanes * format.code.width * i)), lane, 4, lanes)

    return move_parts, move_codes, block


def _values(b: ir.IRBuilder, format: QuantFormat, name: str, source: ir.Value, size: int) -> ir.Value:
    """The elements of a part of a group, as integers of its size."""
    part = format.part(name)
    assert part is not None
    count, found, at = format.elements(part, size), None, 0
    for f in format.fields(size):
        place = b.add(source, source.type(at))
        at += _size(format, f, size)
        if isinstance(f, Raw):
            if f.part == name:
                width = 8 * np.dtype(part.dtype).itemsize
                values = _loaded(b, place, count, ir.IntType(width))
                return b.xor(values, filled(values.type, 1 << width - 1)) if f.negated else values
            continue
        shift = 0
        for bits in f.bits:
            if bits.part == name:
                byte = _loaded(b, place, f.size, ir.IntType(8))
                byte = b.and_(b.lshr(byte, filled(byte.type, shift)), filled(byte.type, (1 << bits.width) - 1))
                order = [f.size] * count  # which is a zero
                for i in range(f.size):
                    order[bits.first + i * bits.step] = i
                placed = b.shl(_picked(b, byte, order), filled(ir.VectorType(byte.type.element, count), bits.low))
                found = placed if found is None else b.or_(found, placed)
            shift += bits.width
    assert found is not None
    return found


def _words(b: ir.IRBuilder, codes: ir.Value, bits: int) -> ir.Value:
    """32 codes -> the words that hold them, `bits` in number, see `Tiles8`."""
    registers, low, words = b.bitcast(codes, ir.VectorType(I32, 8)), 0, None
    for width in slices(bits):
        mask, each = 0x01010101 * ((1 << width) - 1), 8 // width
        made = None
        for i in range(each):
            r = _picked(b, registers, range(i, 8, each))
            r = b.and_(b.lshr(r, filled(r.type, low)), filled(r.type, mask - (mask >> 31 << 32)))
            r = b.shl(r, filled(r.type, i * width))
            made = r if made is None else b.or_(made, r)
        words = made if words is None else _joined(b, words, made)
        low += width
    return words


def _size(format: QuantFormat, field: Any, size: int) -> int:
    """The bytes of a field."""
    if isinstance(field, Raw):
        part = format.part(field.part)
        assert part is not None
        return format.elements(part, size) * np.dtype(part.dtype).itemsize
    return int(field.size)


def _loaded(b: ir.IRBuilder, at: ir.Value, count: int, element: ir.Type) -> ir.Value:
    return b.load(b.inttoptr(at, ir.VectorType(element, count).as_pointer()), align=1)


def _picked(b: ir.IRBuilder, values: ir.Value, order: Any) -> ir.Value:
    """values[order], where the number after the last element stands for zero."""
    order = list(order)
    return b.shuffle_vector(values, ir.Constant(values.type, None), ir.Constant(ir.VectorType(I32, len(order)), order))


def _joined(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """x, then y, of which neither is longer than 8."""
    m, n = x.type.count, y.type.count
    most = max(m, n)
    wide = [_picked(b, v, [*range(v.type.count), *[v.type.count] * (most - v.type.count)]) for v in (x, y)]
    order = ir.Constant(ir.VectorType(I32, m + n), [*range(m), *range(most, most + n)])
    return b.shuffle_vector(wide[0], wide[1], order)


def _spread(b: ir.IRBuilder, values: ir.Value, at: ir.Value, lane: ir.Value, size: int, lanes: int) -> None:
    """Write each element where its lane is in a register of its own; they are `size` bytes."""
    at = b.add(at, b.mul(lane, lane.type(size)))
    for i in range(values.type.count):
        pointer = b.inttoptr(b.add(at, at.type(i * lanes * size)), values.type.element.as_pointer())
        b.store(b.extract_element(values, I32(i)), pointer, align=size)
