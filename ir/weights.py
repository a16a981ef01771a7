"""Where the data of a module's weights comes from: arrays in memory, or byte ranges of files read with `pread`."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from burnish.ir.box import Box, cut, whole
from burnish.ir.format import Packed
from burnish.ir.op import Array
from burnish.ir.types import NUMPY, Type

__all__ = ["MemoryWeights", "ReadError", "StackedWeights", "StoredTensor", "StoredWeights", "WeightSource", "WeightsOf"]


class ReadError(OSError):
    """Weights that are not there as their file's header said, or as they were when it was read."""


class WeightSource(Protocol):
    """Reads weights by name."""

    def read(self, name: str) -> Array:
        """The whole tensor: an array, or Packed."""

    def read_part(self, name: str, box: Box) -> Array:
        """A box of the tensor, and no other bytes of it; of a packed one, the last axis is whole."""


@dataclass
class MemoryWeights:
    """Weights that are arrays already."""

    arrays: Mapping[str, Array]

    def read(self, name: str) -> Array:
        """The array."""
        return self.arrays[name]

    def read_part(self, name: str, box: Box) -> Array:
        """A part of the array."""
        return cut(self.arrays[name], box)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as bytes of a file, little-endian; a packed one in its default layout.

    Row-major unless there are `strides`, in elements, of which any may be 0: what lies so is a view of what is stored.
    """

    path: Path
    offset: int
    type: Type
    strides: tuple[int, ...] | None = None


@dataclass
class StoredWeights:
    """Weights in files, read with `pread` as they are asked for (mapped pages would count as memory).

    A file that is written or replaced after this was made is refused: ReadError. `digests` are the sha256 of files of
    which it is known. `bytes_read` counts.
    """

    tensors: Mapping[str, StoredTensor]
    digests: Mapping[Path, str] = field(default_factory=dict)
    bytes_read: int = 0
    _files: dict[Path, int] = field(default_factory=dict, repr=False)
    _versions: dict[Path, tuple[int, ...]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        paths = dict.fromkeys([*(t.path for t in self.tensors.values()), *self.digests])
        try:
            self._versions = {path: _version(path.stat()) for path in paths}
        except OSError as e:
            raise ReadError(f"{e.filename}: {e.strerror or e}") from None

    def verify(self) -> int:
        """Read every file whose digest is known, and compare: how many these are. Raises ReadError."""
        for path, digest in self.digests.items():
            with open(self._file(path), "rb", closefd=False) as f:
                f.seek(0)
                found = hashlib.file_digest(f, "sha256").hexdigest()
            self._check_version(path)
            if found != digest:
                raise ReadError(f"{path}: its sha256 is not the one that was written down: it is damaged or changed")
        return len(self.digests)

    def read(self, name: str) -> Array:
        """The whole tensor. Raises ReadError where the file is shorter than its header said, or was changed."""
        return self.read_part(name, whole(self.tensors[name].type.sizes))

    def read_part(self, name: str, box: Box) -> Array:
        """A box, by as many reads as it has runs of bytes that lie together."""
        tensor = self.tensors[name]
        stored = tensor.type.storage
        if tensor.type.format is not None:
            assert box[-1] == slice(0, tensor.type.sizes[-1]), "the bytes of a packed row are read together"
            box = (*box[:-1], slice(0, stored.sizes[-1]))
        array = self._read_box(tensor, stored, box)
        if tensor.type.format is None:
            return array
        return Packed(tensor.type.dtype, "", (*array.shape[:-1], tensor.type.sizes[-1]), {"bytes": array})

    def _read_box(self, tensor: StoredTensor, stored: Type, box: Box) -> np.ndarray:
        shape, dtype = tuple(s.stop - s.start for s in box), NUMPY[stored.dtype]
        if 0 in shape:
            return np.empty(shape, dtype)
        strides = _row_major(stored.sizes) if tensor.strides is None else tensor.strides
        start = sum(s.start * n for s, n in zip(box, strides, strict=True))
        order = sorted(range(len(shape)), key=lambda i: -strides[i])  # as the axes lie
        array = np.empty([shape[i] if strides[i] else 1 for i in order], dtype)
        run, lead = 1, len(order)  # behind `lead`, all is one run
        while lead and (array.shape[lead - 1] == 1 or strides[order[lead - 1]] == run):
            lead -= 1
            run *= array.shape[lead]
        steps = [range(0, array.shape[k] * strides[i], strides[i]) for k, i in enumerate(order[:lead])]
        for target, offsets in zip(array.reshape(-1, run).view(np.uint8), itertools.product(*steps), strict=True):
            at = tensor.offset + (start + sum(offsets)) * dtype.itemsize
            self._pread_into(tensor.path, at, target)
        self._check_version(tensor.path)
        if tensor.strides is None:
            return array
        return np.ascontiguousarray(np.broadcast_to(array.transpose(np.argsort(order)), shape))

    def _pread_into(self, path: Path, offset: int, target: np.ndarray) -> None:
        view, done = memoryview(target.data), 0
        while done < len(view):
            n = os.preadv(self._file(path), [view[done : done + (1 << 30)]], offset + done)
            if n == 0:
                raise ReadError(f"{path}: ends at byte {offset + done}, inside a tensor")
            done += n
        self.bytes_read += done

    def _file(self, path: Path) -> int:
        if path not in self._files:
            try:
                self._files[path] = os.open(path, os.O_RDONLY)
            except OSError as e:
                raise ReadError(f"{path}: {e.strerror or e}") from None
        return self._files[path]

    def _check_version(self, path: Path) -> None:
        if _version(os.fstat(self._file(path))) != self._versions[path]:
            raise ReadError(f"{path}: was changed while it was read; read it again when whoever writes it is done")

    def __del__(self) -> None:
        for descriptor in getattr(self, "_files", {}).values():
            os.close(descriptor)


def _row_major(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(sizes[i + 1 :]) for i in range(len(sizes)))


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass
class WeightsOf:
    """Several sources as one; a name is looked for in their order."""

    sources: Mapping[str, WeightSource]  # weight name -> its source

    def read(self, name: str) -> Array:
        """From the source that has it."""
        return self.sources[name].read(name)

    def read_part(self, name: str, box: Box) -> Array:
        """From the source that has it."""
        return self.sources[name].read_part(name, box)


@dataclass
class StackedWeights:
    """Those of a source, and stacks of them, of which each has another first axis: the experts of a layer."""

    source: WeightSource
    stacks: Mapping[str, Sequence[str]]  # the weight's name -> those of its parts, which have one plain type

    def read(self, name: str) -> Array:
        """All parts of a stack."""
        parts = self.stacks.get(name)
        return self.source.read(name) if parts is None else _stacked(map(self.source.read, parts), len(parts))

    def read_part(self, name: str, box: Box) -> Array:
        """Of the parts that the box asks for, what it asks of each."""
        if (every := self.stacks.get(name)) is None:
            return self.source.read_part(name, box)
        parts = every[box[0]]
        if not parts:
            return self.source.read_part(every[0], box[1:])[None][:0]
        return _stacked((self.source.read_part(n, box[1:]) for n in parts), len(parts))


def _stacked(parts: Iterable[Array], count: int) -> Array:
    """The parts one behind the other, no more than one of them being held beside that."""
    out: Array = None
    for i, part in enumerate(parts):
        out = np.empty((count, *part.shape), part.dtype) if out is None else out
        out[i] = part
    return out
