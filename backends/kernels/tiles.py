"""The layouts that the kernels read weights in: tiles of as many rows as a SIMD register has 32-bit lanes.

A register holds one 32-bit word of each row of a tile, so that every lane sums up one output and no sum crosses lanes.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from burnish.ir.dims import Dim
from burnish.ir.format import Array, Layout, Parts, QuantFormat, view
from burnish.ir.parts import Part, slices

__all__ = ["WORD_INPUTS", "Tiles8", "Tiles16", "offsets"]

GROUP = Part("group", "u1")  # something of which each group has one
WORD_INPUTS = 32  # so many codes make whole words, whatever their width: a word of each for every bit of a code


class Tiles8(Layout):
    """Tiles of 8 rows, for [..., rows, K]; the last tile is filled up with rows of zeros. Two planes:

    `codes` u32[..., tiles, K / 32, bits, lanes]. 32 inputs of a row are 8 registers of four bytes, inputs 4r … 4r + 3
    in register r. A code of 6 bits is its lower 4 and its upper 2, the widths that divide a byte: first the words of
    the lower bits, of which a byte has those of two registers that follow each other, then those of the upper, with
    four to a byte. So a shift and a mask of a word give a register.

    `scales` u8[..., tiles, groups, bytes]: the other parts of each group, one after the other, each [elements, lanes].
    A row may be one group.
    """

    name = "tiles8"
    tile = 8

    def accepts(self, format: QuantFormat, shape: tuple[Dim, ...]) -> str | None:
        """Matrices of a known size, alone or as a stack, in a format whose groups are whole words."""
        if format.group % WORD_INPUTS:
            return f"the groups of {format.name} are not of {WORD_INPUTS} inputs or a multiple"
        if len(shape) < 2 or not all(isinstance(d, int) for d in shape):
            return "it is not a matrix of a known size"
        if isinstance(shape[-1], int) and shape[-1] % WORD_INPUTS:
            return f"its rows are not of {WORD_INPUTS} inputs or a multiple"
        return None

    def pack(self, xp: Any, format: QuantFormat, parts: Parts, shape: tuple[int, ...]) -> Mapping[str, Array]:
        """Parts -> codes and scales."""
        *_, inputs = shape
        code, groups = format.code, format.elements(GROUP, inputs)
        words = self._by_tile(xp, _words(xp, view(xp, parts[code.name], "u4"), code.width))
        codes = words.reshape(*words.shape[:-2], inputs // WORD_INPUTS, code.width, self.tile)
        streams = []
        for part in _others(format):
            x = self._by_tile(xp, parts[part.name])
            x = x.reshape(*x.shape[:-2], groups, format.elements(part, format.group or WORD_INPUTS) * self.tile)
            streams.append(view(xp, x, "u1"))
        return {"codes": codes, "scales": xp.concatenate(streams, axis=-1)}

    def unpack(self, xp: Any, format: QuantFormat, planes: Mapping[str, Array], shape: tuple[int, ...]) -> Parts:
        """Codes and scales -> parts."""
        codes, scales, parts = planes["codes"], planes["scales"], {}
        at = offsets(format, self.tile)
        for part in format.parts:
            if part.per == "input":
                words = self._by_row(xp, codes.reshape(*codes.shape[:-3], -1, self.tile), shape)
                parts[part.name] = view(xp, _registers(xp, words, part.width), part.dtype)
                continue
            count = format.elements(part, format.group or WORD_INPUTS)
            size = count * self.tile * np.dtype(part.dtype).itemsize
            x = view(xp, scales[..., at[part.name] : at[part.name] + size], part.dtype)
            x = x.reshape(*x.shape[:-2], x.shape[-2] * count, self.tile)
            parts[part.name] = self._by_row(xp, x, shape)
        return parts

    def _by_tile(self, xp: Any, x: Array) -> Array:
        """[..., rows, n] -> [..., tiles, n, lanes]."""
        *lead, rows, n = x.shape
        tiles = -(-rows // self.tile)
        if tiles * self.tile > rows:
            x = xp.pad(x, [(0, 0)] * len(lead) + [(0, tiles * self.tile - rows), (0, 0)])
        return xp.swapaxes(x.reshape(*lead, tiles, self.tile, n), -1, -2)

    def _by_row(self, xp: Any, x: Array, shape: tuple[int, ...]) -> Array:
        """[..., tiles, n, lanes] -> [..., rows, n]."""
        *lead, tiles, n, _ = x.shape
        return xp.swapaxes(x, -1, -2).reshape(*lead, tiles * self.tile, n)[..., : shape[-2], :]


class Tiles16(Tiles8):
    """The same in tiles of 16 rows."""

    name = "tiles16"
    tile = 16


def offsets(format: QuantFormat, lanes: int) -> dict[str, int]:
    """The byte of a group's `scales` at which each part begins, and at "" their end."""
    found, at = {}, 0
    for part in _others(format):
        found[part.name] = at
        at += format.elements(part, format.group or WORD_INPUTS) * lanes * np.dtype(part.dtype).itemsize
    return {**found, "": at}


def _others(format: QuantFormat) -> Iterator[Part]:
    """The parts but the code, the widest first, so that each lies at a multiple of its size."""
    return iter(sorted((p for p in format.parts if p.per != "input"), key=lambda p: -np.dtype(p.dtype).itemsize))


def _words(xp: Any, registers: Array, bits: int) -> Array:
    """Registers u32[..., rows, K / 4] of a byte a code -> u32[..., rows, K / 32 * bits]."""
    registers = registers.reshape(*registers.shape[:-1], registers.shape[-1] // 8, 8)
    words, low = [], 0
    for width in slices(bits):
        r = registers.reshape(*registers.shape[:-1], width, 8 // width)
        mask = np.uint32(0x01010101 * ((1 << width) - 1))
        byte = [(r[..., i] >> np.uint32(low) & mask) << np.uint32(i * width) for i in range(8 // width)]
        words.append(functools.reduce(operator.or_, byte))
        low += width
    joined = words[0] if len(words) == 1 else xp.concatenate(words, axis=-1)
    return joined.reshape(*joined.shape[:-2], joined.shape[-2] * bits)


def _registers(xp: Any, words: Array, bits: int) -> Array:
    """The inverse of `_words`."""
    words = words.reshape(*words.shape[:-1], words.shape[-1] // bits, bits)
    found, low, at = [], 0, 0
    for width in slices(bits):
        mask = np.uint32(0x01010101 * ((1 << width) - 1))
        w = words[..., at : at + width]
        each = [(w >> np.uint32(i * width) & mask) << np.uint32(low) for i in range(8 // width)]
        found.append(xp.stack(each, axis=-1).reshape(*words.shape[:-1], 8))
        at, low = at + width, low + width
    registers = functools.reduce(operator.or_, found)
    return registers.reshape(*registers.shape[:-2], registers.shape[-2] * 8)
