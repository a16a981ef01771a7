"""Where the data of a module's weights comes from: arrays in memory, or byte ranges of files read with `pread`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from burnish.ir.format import Packed
from burnish.ir.op import Array
from burnish.ir.types import NUMPY, Type

__all__ = ["MemoryWeights", "StoredTensor", "StoredWeights", "WeightSource", "WeightsOf"]


class WeightSource(Protocol):
    """Reads weights by name."""

    def read(self, name: str) -> Array:
        """The whole tensor: an array, or Packed."""

    def read_part(self, name: str, rows: slice, columns: slice | None = None) -> Array:
        """Rows `rows` (axis 0), and of a plain matrix the columns `columns`; reads no other bytes."""


@dataclass
class MemoryWeights:
    """Weights that are arrays already."""

    arrays: Mapping[str, Array]

    def read(self, name: str) -> Array:
        """The array."""
        return self.arrays[name]

    def read_part(self, name: str, rows: slice, columns: slice | None = None) -> Array:
        """A part of the array."""
        array = self.arrays[name]
        if isinstance(array, Packed):
            planes = {k: p[rows] for k, p in array.planes.items()}
            return array.with_planes(planes, (len(range(*rows.indices(array.shape[0]))), *array.shape[1:]))
        return array[rows] if columns is None else array[rows, columns]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as bytes of a file, row-major, little-endian; a packed one in its default layout."""

    path: Path
    offset: int
    type: Type


@dataclass
class StoredWeights:
    """Weights in files, read with `pread` as they are asked for (mapped pages would count as memory).

    `bytes_read` counts.
    """

    tensors: Mapping[str, StoredTensor]
    bytes_read: int = 0
    _files: dict[Path, int] = field(default_factory=dict, repr=False)

    def read(self, name: str) -> Array:
        """The whole tensor. Raises OSError where the file is shorter than its header said."""
        tensor = self.tensors[name]
        return self.read_part(name, slice(0, tensor.type.sizes[0] if tensor.type.rank else 1))

    def read_part(self, name: str, rows: slice, columns: slice | None = None) -> Array:
        """Rows, or a rectangle of a plain matrix, row by row."""
        tensor = self.tensors[name]
        shape = tensor.type.sizes
        packed = tensor.type.format
        dtype = np.dtype(np.uint8) if packed else NUMPY[tensor.type.dtype]
        stored = (*shape[:-1], packed.row_bytes(shape[-1])) if packed else shape
        row = int(np.prod(stored[1:], dtype=np.int64)) * dtype.itemsize
        low, high, _ = rows.indices(shape[0] if shape else 1)
        if columns is None:
            data = self._pread(tensor.path, tensor.offset + low * row, max(high - low, 0) * row)
            array = data.view(dtype).reshape((max(high - low, 0), *stored[1:]) if shape else ())
        else:
            first, last, _ = columns.indices(shape[1])
            array = np.empty((high - low, last - first), dtype)
            target = array.view(np.uint8).reshape(high - low, -1)
            for i in range(low, high):
                at = tensor.offset + i * row + first * dtype.itemsize
                self._pread_into(tensor.path, at, target[i - low])
        if packed is None:
            return array
        return Packed(tensor.type.dtype, "", (*array.shape[:-1], shape[-1]), {"bytes": array})

    def _pread(self, path: Path, offset: int, size: int) -> np.ndarray:
        data = np.empty(size, np.uint8)
        self._pread_into(path, offset, data)
        return data

    def _pread_into(self, path: Path, offset: int, target: np.ndarray) -> None:
        view, done = memoryview(target.data), 0
        while done < len(view):
            n = os.preadv(self._file(path), [view[done : done + (1 << 30)]], offset + done)
            if n == 0:
                raise OSError(f"{path}: ends at byte {offset + done}, inside a tensor")
            done += n
        self.bytes_read += done

    def _file(self, path: Path) -> int:
        if path not in self._files:
            self._files[path] = os.open(path, os.O_RDONLY)
        return self._files[path]

    def __del__(self) -> None:
        for descriptor in getattr(self, "_files", {}).values():
            os.close(descriptor)


@dataclass
class WeightsOf:
    """Several sources as one; a name is looked for in their order."""

    sources: Mapping[str, WeightSource]  # weight name -> its source

    def read(self, name: str) -> Array:
        """From the source that has it."""
        return self.sources[name].read(name)

    def read_part(self, name: str, rows: slice, columns: slice | None = None) -> Array:
        """From the source that has it."""
        return self.sources[name].read_part(name, rows, columns)

    @classmethod
    def joined(cls, *parts: tuple[Iterable[str], WeightSource]) -> WeightsOf:
        """From (names, source) pairs."""
        return cls({name: source for names, source in reversed(parts) for name in names})
