"""Memory for weights, side by side in large blocks: these have pages of 2 MiB, and smaller arrays of NumPy's have none.

A core that reads weights from pages of 4 KiB spends a third of its time on finding where they are.
"""

from __future__ import annotations

import math
import threading

import numpy as np

from burnish.ir.format import Packed
from burnish.ir.op import Array

__all__ = ["empty", "shelved"]

BLOCK = 64 << 20  # bytes; what is not touched of it takes no memory
SMALL, LARGE = 1 << 16, 8 << 20  # bytes: below, pages do not matter; above, an array has large ones by itself
ALIGN = 64


class _Block(np.ndarray):
    """Memory that arrays are parts of; it is let go of with the last of them."""


class _Shelf:
    def __init__(self) -> None:
        self.lock, self.block, self.used = threading.Lock(), _Block(0, np.uint8), 0

    def take(self, nbytes: int) -> np.ndarray:
        """So many bytes, at a multiple of 64."""
        with self.lock:
            if self.used + nbytes > len(self.block):
                self.block = _Block(BLOCK, np.uint8)
                self.used = -self.block.ctypes.data % ALIGN
            start = self.used
            self.used += -(-nbytes // ALIGN) * ALIGN
            return self.block[start : start + nbytes].view(np.ndarray)


_SHELF = _Shelf()


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array at a multiple of 64 bytes."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < LARGE:
        return _SHELF.take(nbytes).view(dtype).reshape(shape)
    whole = np.empty(nbytes + ALIGN, np.uint8)
    start = -whole.ctypes.data % ALIGN
    return whole[start : start + nbytes].view(dtype).reshape(shape)


def shelved(array: Array) -> Array:
    """The array, or a copy in such memory, if it gains by that."""
    if isinstance(array, Packed):
        return array.with_planes({k: shelved(p) for k, p in array.planes.items()}, array.shape)
    if not SMALL <= array.nbytes < LARGE or _is_there(array):
        return array
    made = empty(array.shape, array.dtype)
    made[...] = array
    return made


def _is_there(array: np.ndarray) -> bool:
    base = array.base
    while isinstance(base, np.ndarray) and not isinstance(base, _Block):
        base = base.base
    return isinstance(base, _Block)
