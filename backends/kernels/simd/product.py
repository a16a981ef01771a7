"""The loops around a tile: a matrix product over all rows and tokens, shared out between threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.core.types import Array, float32, int32, int64, uint8, void

from burnish.backends.kernels.simd.registers import take

__all__ = ["PanelFunction", "ProductFunction", "TileFunction", "make_panels", "matrix_product"]

#: tile(words, word_stride, scales, scale_stride, panel, groups, out, row_stride, token_stride), all int64: the address
#: of a row tile's words and scales, each with the bytes from one row tile to the next; of a panel of inputs; the
#: groups in a row; the address of the output, with the bytes from one row tile to the next and from token to token.
TileFunction = Callable[..., Any]
ProductFunction = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int, np.ndarray], None]
PanelFunction = Callable[[np.ndarray, int, np.ndarray], None]


def matrix_product(block: TileFunction, rows: int, single: TileFunction) -> ProductFunction:
    """Compile the product with `block`, which does `rows` row tiles at a time, and `single`, which does one.

    product(words u8[tiles, groups, n, lanes, 4], scales u8[tiles, groups, m, bytes], panels i32[panels, groups, 10, T],
    out f32[panels * T, tiles * lanes], chunk, counter i64[1]), all contiguous. Any number of threads may call it at
    once on one `counter`, a zero at first: a thread takes `chunk` row tiles at a time (a multiple of `rows`).
    """
    blocks_of_tokens, singles_of_tokens = _over_panels(block), _over_panels(single)
    operands = (Array(uint8, 5, "C", readonly=True), Array(uint8, 4, "C", readonly=True), Array(int32, 4, "C"))

    @njit(void(*operands, Array(float32, 2, "C"), int64, Array(int64, 1, "C")), nogil=True)
    def product(
        words: np.ndarray, scales: np.ndarray, panels: np.ndarray, out: np.ndarray, chunk: int, counter: np.ndarray
    ) -> None:
        tiles = len(words)
        start = take(counter.ctypes.data, chunk)
        while start < tiles:
            end = min(start + chunk, tiles)
            blocks_end = end - (end - start) % rows
            for t in range(start, blocks_end, rows):
                blocks_of_tokens(words, scales, panels, out, t)
            for t in range(blocks_end, end):
                singles_of_tokens(words, scales, panels, out, t)
            start = take(counter.ctypes.data, chunk)

    return product


def _over_panels(tile: TileFunction) -> Callable[..., None]:
    @njit(nogil=True)
    def over_panels(words: np.ndarray, scales: np.ndarray, panels: np.ndarray, out: np.ndarray, t: int) -> None:
        word_stride, scale_stride, panel_stride, token_stride = (
            words.strides[0], scales.strides[0], panels.strides[0], out.strides[0],
        )  # fmt: skip
        count, groups, _, tokens = panels.shape
        row_stride = words.shape[3] * out.itemsize
        w, s = words.ctypes.data + t * word_stride, scales.ctypes.data + t * scale_stride
        x, y = panels.ctypes.data, out.ctypes.data + t * row_stride
        for _ in range(count):
            tile(w, word_stride, s, scale_stride, x, groups, y, row_stride, token_stride)
            x, y = x + panel_stride, y + tokens * token_stride

    return over_panels


@njit(void(Array(int32, 3, "C", readonly=True), int64, Array(int32, 4, "C")), nogil=True)
def make_panels(blocks: np.ndarray, zero_point: int, panels: np.ndarray) -> None:
    """Lay activations out for a tile: int8_32 blocks i32[tokens, groups, 9] -> i32[panels, groups, 10, T].

    A block is an f32 scale and 32 int8 codes. A panel of T tokens has, for each group, the codes by fours (8 words),
    the f32 scales, and `zero_point` times the sums of the codes; tokens beyond the last are zeros.
    """
    tokens, groups, _ = blocks.shape
    count, _, _, width = panels.shape
    codes = blocks.view(np.int8)
    for token in range(tokens, count * width):
        panels[token // width, :, :, token % width] = 0
    for token in range(tokens):
        panel, column = token // width, token % width
        for g in range(groups):
            total = np.int32(0)
            for byte in range(4, 36):
                total += np.int32(codes[token, g, byte])
            for word in range(8):
                panels[panel, g, word, column] = blocks[token, g, 1 + word]
            panels[panel, g, 8, column] = blocks[token, g, 0]
            panels[panel, g, 9, column] = zero_point * total
