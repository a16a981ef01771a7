"""The logical parts of a quantized format, and where their bits lie in a block of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["Bits", "Bytes", "Part", "Raw", "slices", "spread"]


@dataclass(frozen=True)
class Part:
    """A logical part: elements of `dtype`, one for each input, run or group, of which `bits` bits are used."""

    name: str
    dtype: str = "u1"  # a NumPy dtype string
    per: str = "group"
    bits: int = 0  # all of them, unless given

    @property
    def width(self) -> int:
        """The bits of an element."""
        return self.bits or 8 * np.dtype(self.dtype).itemsize


class Bits(NamedTuple):
    """`width` bits, from bit `low` up, of the elements first, first + step, … of a part: one element for each byte."""

    part: str
    width: int
    first: int = 0
    low: int = 0
    step: int = 1


class Bytes(NamedTuple):
    """Bytes of a block, and what lies in each of them, from bit 0 up."""

    size: int
    bits: tuple[Bits, ...]


class Raw(NamedTuple):
    """A part in a block, its elements side by side; `negated`: with their signs changed."""

    part: str
    negated: bool = False


def spread(part: str, count: int, among: int, width: int, low: int = 0) -> tuple[Bytes, ...]:
    """`width` bits of each of `count` elements: of n bytes for `among` elements, byte j has j, j + n, j + 2n, …"""
    n = among * width // 8
    starts = range(0, count, among)
    return tuple(Bytes(n, tuple(Bits(part, width, at + i * n, low) for i in range(8 // width))) for at in starts)


def slices(bits: int) -> tuple[int, ...]:
    """Widths that divide a byte and add up to `bits`, the widest first: codes of 6 bits are 4 bits and 2 bits."""
    return tuple(width for width in (8, 4, 2, 1) if bits & width)
