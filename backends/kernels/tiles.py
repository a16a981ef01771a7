"""The layouts that the kernels read weights in: tiles of as many rows as a SIMD register has 32-bit lanes.

A register holds one 32-bit word of each row of a tile, so that every lane sums up one output and no sum crosses lanes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from burnish.ir.dims import Dim
from burnish.ir.format import Array, Fields, Layout, QuantFormat
from burnish.ir.registry import Registry

__all__ = ["ARRANGEMENTS", "Arrangement", "Tiles8", "Tiles16", "aligned"]


class Arrangement:
    """How the fields of a group of one format become the two streams that a kernel reads. Exact both ways.

    Registered by being defined. Written for numpy and jax.numpy (`xp`); leading axes are rows and groups.
    """

    #: the format that it arranges
    format: ClassVar[str]

    def __init_subclass__(cls, replace: bool = False) -> None:
        if not cls.__name__.startswith("_"):
            ARRANGEMENTS.add(cls.format, cls(), replace)

    def words(self, xp: Any, fields: Fields) -> Array:
        """Fields -> u8[..., 4 * n]: the codes of a group, in the order in which the kernel's registers want them."""
        raise NotImplementedError

    def scales(self, xp: Any, fields: Fields) -> Array:
        """Fields -> [..., m]: the scales (and minima) of a group."""
        raise NotImplementedError

    def fields(self, xp: Any, words: Array, scales: Array) -> Fields:
        """The inverse."""
        raise NotImplementedError


ARRANGEMENTS: Registry[Arrangement] = Registry("arrangement of the format")


class Tiles8(Layout):
    """Tiles of `lanes` rows, for [rows, K]; the last is filled up with rows of zeros.

    Planes: `words` u8[tiles, groups, n, lanes, 4] and `scales` [tiles, groups, m, lanes], by the format's arrangement.
    """

    name = "tiles8"
    by_rows = False
    lanes: ClassVar[int] = 8

    def accepts(self, format: QuantFormat, shape: tuple[Dim, ...]) -> str | None:
        """Matrices of a known size, in a format that has an arrangement."""
        if format.name not in ARRANGEMENTS:
            return f"no kernel arranges {format.name} so"
        if len(shape) != 2 or not all(isinstance(d, int) for d in shape):
            return "it is not a matrix of a known size"
        return None

    def pack(self, xp: Any, format: QuantFormat, fields: Fields, shape: tuple[int, ...]) -> Mapping[str, Array]:
        """Fields -> words and scales."""
        arrangement = ARRANGEMENTS[format.name]
        words = self._by_tile(xp, arrangement.words(xp, fields))
        tiles, lanes, groups, size = words.shape
        words = words.reshape(tiles, lanes, groups, size // 4, 4).transpose(0, 2, 3, 1, 4)
        scales = self._by_tile(xp, arrangement.scales(xp, fields)).transpose(0, 2, 3, 1)
        return {"words": aligned(words), "scales": aligned(scales)} if xp is np else {"words": words, "scales": scales}

    def unpack(self, xp: Any, format: QuantFormat, planes: Mapping[str, Array], shape: tuple[int, ...]) -> Fields:
        """Words and scales -> fields."""
        words, scales = planes["words"], planes["scales"]
        tiles, groups, n, lanes, _ = words.shape
        words = words.transpose(0, 3, 1, 2, 4).reshape(tiles * lanes, groups, 4 * n)
        scales = scales.transpose(0, 3, 1, 2).reshape(tiles * lanes, groups, scales.shape[2])
        return ARRANGEMENTS[format.name].fields(xp, words[: shape[0]], scales[: shape[0]])

    def _by_tile(self, xp: Any, x: Array) -> Array:
        """[rows, groups, size] -> [tiles, lanes, groups, size]."""
        rows, groups, size = x.shape
        tiles = -(-rows // self.lanes)
        return xp.pad(x, [(0, tiles * self.lanes - rows), (0, 0), (0, 0)]).reshape(tiles, self.lanes, groups, size)


class Tiles16(Tiles8):
    """The same in tiles of 16 rows."""

    name = "tiles16"
    lanes = 16


def aligned(x: np.ndarray) -> np.ndarray:
    """A contiguous copy at a multiple of 64 bytes; at NumPy's 16, every second 32-byte load crosses a cache line."""
    buffer = np.empty(x.nbytes + 63, np.uint8)
    start = -buffer.ctypes.data % 64
    copy = buffer[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy
