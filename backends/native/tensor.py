"""Where a program's arrays lie: views of memory whose address is known when the program runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from burnish.ir.format import Packed
from burnish.ir.op import Array

__all__ = ["Memory", "PackedTensor", "RingRows", "Tensor", "Value", "rows_in_order", "tensor_of", "tensors"]


@dataclass(eq=False)
class Memory:
    """Bytes that have an address in a run. `array` shows how views of them lie, and holds them where they are fixed."""

    array: np.ndarray
    #: "fixed" is known before a run, "given" (an input, or what NumPy made) at its start or in it; "made" by the
    #: program in memory that it uses again, "returned" in memory of its own
    kind: str

    @cached_property
    def start(self) -> int:
        """The address of its first byte in `array`."""
        return int(np.lib.array_utils.byte_bounds(self.array)[0])


@dataclass(eq=False)
class Tensor:
    """A view of memory: `array` is the view of the memory's `array`, and its numbers mean nothing."""

    memory: Memory
    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return self.array.shape

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one element to the next, of each axis."""
        return self.array.strides

    @property
    def dtype(self) -> np.dtype:
        """The type of its elements."""
        return self.array.dtype

    @cached_property
    def offset(self) -> int:
        """The byte of its memory that it begins at."""
        if self.array is self.memory.array and self.is_contiguous:
            return 0
        return int(self.array.__array_interface__["data"][0]) - self.memory.start

    @property
    def is_contiguous(self) -> bool:
        """Whether it lies row after row without gaps."""
        return bool(self.array.flags.c_contiguous)

    def view(self, array: np.ndarray) -> Tensor:
        """Another view of the same memory."""
        return Tensor(self.memory, array)

    @property
    def anywhere(self) -> Tensor:
        """For a call that reads or writes rows of it that are not those of its items: a view without axes."""
        return self.view(np.lib.stride_tricks.as_strided(self.array, (), ())) if self.array.size else self

    def rows(self, axes: int = 1) -> tuple[int, int] | None:
        """How many rows of the last `axes` axes there are, and the bytes between them; None where these vary."""
        lead, strides = self.shape[: len(self.shape) - axes], self.strides
        count, stride = math.prod(lead), 0
        expected = None
        for n, s in zip(reversed(lead), reversed(strides[: len(lead)]), strict=True):
            if n == 1:
                continue
            if expected is None:
                stride, expected = s, s * n
            elif s == expected:
                expected = s * n
            else:
                return None
        return count, stride


@dataclass(frozen=True, eq=False)
class PackedTensor:
    """A quantized array, of tensors."""

    format: str
    layout: str
    shape: tuple[int, ...]
    planes: Mapping[str, Tensor] = field(repr=False)


@dataclass(frozen=True, eq=False)
class RingRows:
    """The rows of the R positions before a step, in order, of a ring that holds the step's own already.

    Row j is that of `first` for the first M, which were overwritten, and for the others row (past + j) mod R of the
    ring; those before position 0 hold anything.
    """

    first: Tensor  # [B, M, …]
    ring: Tensor  # [B, R, …]
    past: Tensor  # [B]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return self.ring.shape

    @property
    def dtype(self) -> np.dtype:
        """The type of its elements."""
        return self.ring.dtype


Value = Tensor | PackedTensor | RingRows


def tensor_of(array: Array, kind: str) -> Value:
    """A tensor, or a packed one, of an array that shows its shape and strides."""
    if isinstance(array, Packed):
        planes = {k: Tensor(Memory(x, kind), x) for k, x in array.planes.items()}
        return PackedTensor(array.format, array.layout, array.shape, planes)
    return Tensor(Memory(array, kind), array)


def tensors(value: Value) -> list[Tensor]:
    """Those that a value is made of."""
    if isinstance(value, RingRows):
        return [value.first, value.ring, value.past]
    return list(value.planes.values()) if isinstance(value, PackedTensor) else [value]


def rows_in_order(first: np.ndarray, ring: np.ndarray, past: np.ndarray) -> np.ndarray:
    """The rows that `RingRows` says, with zeros before position 0."""
    at = past[:, None] + np.arange(ring.shape[1], dtype=np.int32)
    index = (..., *(None,) * (ring.ndim - 2))
    rows = np.take_along_axis(ring, (at % ring.shape[1])[index], axis=1)
    rows[:, : first.shape[1]] = first
    rows[at < ring.shape[1]] = 0
    return rows
