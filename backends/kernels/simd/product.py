"""The loops around a tile: a matrix product over all rows and tokens, shared out between threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core.types import Array, boolean, float32, int32, int64, uint8, uint32, void

from burnish.backends.kernels.simd.registers import take

__all__ = ["Panel", "PanelFunction", "ProductFunction", "TileFunction", "matrix_product", "panels_for"]

#: tile(codes, code_stride, scales, scale_stride, panel, groups, out, row_stride, token_stride), all int64: the address
#: of a row tile's codes and scales, each with the bytes from one row tile to the next; of a panel of inputs; the
#: groups in a row; the address of the output, with the bytes from one row tile to the next and from token to token.
TileFunction = Callable[..., Any]
ProductFunction = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int, np.ndarray], None]
PanelFunction = Callable[[np.ndarray, np.ndarray], None]


class Panel(NamedTuple):
    """What a panel of inputs holds for each 32 inputs and each token: rows of 32-bit words.

    The codes by fours (8 rows); the f32 scale; where `factor` is not 0, `factor` times the sums of the codes of each
    of `halves` runs (i32); where `minima`, the sums times the scale (f32).
    """

    halves: int
    factor: int
    minima: bool

    @property
    def products(self) -> int:
        """The first row of `factor` times the sums."""
        return 9

    @property
    def sums(self) -> int:
        """The first row of the sums times the scale."""
        return 9 + (self.halves if self.factor else 0)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.sums + (self.halves if self.minima else 0)


def matrix_product(block: TileFunction, rows: int, single: TileFunction) -> ProductFunction:
    """Compile the product with `block`, which does `rows` row tiles at a time, and `single`, which does one.

    product(codes u32[tiles, blocks, bits, lanes], scales u8[tiles, groups, bytes], panels i32[panels, blocks, rows, T],
    out f32[panels * T, tiles * lanes], chunk, counter i64[1]), all contiguous. Any number of threads may call it at
    once on one `counter`, a zero at first: a thread takes `chunk` row tiles at a time (a multiple of `rows`).
    """
    blocks_of_tokens, singles_of_tokens = _over_panels(block), _over_panels(single)
    operands = (Array(uint32, 4, "C", readonly=True), Array(uint8, 3, "C", readonly=True), Array(int32, 4, "C"))

    @njit(void(*operands, Array(float32, 2, "C"), int64, Array(int64, 1, "C")), nogil=True)
    def product(
        codes: np.ndarray, scales: np.ndarray, panels: np.ndarray, out: np.ndarray, chunk: int, counter: np.ndarray
    ) -> None:
        tiles = len(codes)
        start = take(counter.ctypes.data, chunk)
        while start < tiles:
            end = min(start + chunk, tiles)
            blocks_end = end - (end - start) % rows
            for t in range(start, blocks_end, rows):
                blocks_of_tokens(codes, scales, panels, out, t)
            for t in range(blocks_end, end):
                singles_of_tokens(codes, scales, panels, out, t)
            start = take(counter.ctypes.data, chunk)

    return product


def _over_panels(tile: TileFunction) -> Callable[..., None]:
    @njit(nogil=True)
    def over_panels(codes: np.ndarray, scales: np.ndarray, panels: np.ndarray, out: np.ndarray, t: int) -> None:
        code_stride, scale_stride, panel_stride, token_stride = (
            codes.strides[0], scales.strides[0], panels.strides[0], out.strides[0],
        )  # fmt: skip
        count, tokens, groups = len(panels), panels.shape[3], scales.shape[1]
        row_stride = codes.shape[3] * out.itemsize
        c, s = codes.ctypes.data + t * code_stride, scales.ctypes.data + t * scale_stride
        x, y = panels.ctypes.data, out.ctypes.data + t * row_stride
        for _ in range(count):
            tile(c, code_stride, s, scale_stride, x, groups, y, row_stride, token_stride)
            x, y = x + panel_stride, y + tokens * token_stride

    return over_panels


def panels_for(panel: Panel) -> PanelFunction:
    """make_panels(inputs i32[tokens, blocks, 9], panels i32[panels, blocks, panel.rows, T]): lay inputs out for a tile.

    A block of int8_32 is an f32 scale and 32 int8 codes. Tokens beyond the last are zeros.
    """
    return partial(_make_panels, *panel, panel.products, panel.sums)


@njit(void(int64, int64, boolean, int64, int64, Array(int32, 3, "C", readonly=True), Array(int32, 4, "C")), nogil=True)
def _make_panels(
    halves: int, factor: int, minima: bool, products: int, sums: int, blocks: np.ndarray, panels: np.ndarray
) -> None:
    tokens, count, _ = blocks.shape
    groups, _, _, width = panels.shape
    codes, scales, floats = blocks.view(np.int8), blocks.view(np.float32), panels.view(np.float32)
    for token in range(tokens, groups * width):
        panels[token // width, :, :, token % width] = 0
    for token in range(tokens):
        panel, column = token // width, token % width
        for b in range(count):
            for word in range(8):
                panels[panel, b, word, column] = blocks[token, b, 1 + word]
            panels[panel, b, 8, column] = blocks[token, b, 0]
            total, latter = np.int32(0), np.int32(0)
            for byte in range(16):
                total += np.int32(codes[token, b, 4 + byte])
                latter += np.int32(codes[token, b, 20 + byte])
            if halves == 1:
                total += latter
            if factor:
                panels[panel, b, products, column] = factor * total
                if halves == 2:
                    panels[panel, b, products + 1, column] = factor * latter
            if minima:
                floats[panel, b, sums, column] = scales[token, b, 0] * np.float32(total)
                if halves == 2:
                    floats[panel, b, sums + 1, column] = scales[token, b, 0] * np.float32(latter)
