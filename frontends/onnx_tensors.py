"""The tensors of an ONNX file: where their bytes are, checked against the sizes of the files before any is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from burnish.frontends.config import LoadError, shown
from burnish.frontends.onnx_ops import DTYPES
from burnish.ir.box import Box
from burnish.ir.types import NUMPY, Type
from burnish.ir.weights import MemoryWeights, StoredTensor, StoredWeights, WeightSource

__all__ = ["Tensor", "Turned", "read_tensor"]

_MOST_ELEMENTS = 1 << 48
# TensorProto's fields for numbers that are not raw bytes, by element type, and how many numbers make one element.
_TYPED = {"f32": "float_data", "f64": "double_data", "i64": "int64_data", "u64": "uint64_data", "u32": "uint64_data"}


@dataclass(frozen=True)
class Tensor:
    """An initializer or an attribute: its type, and its bytes in a file of their own, or as an array."""

    name: str
    type: Type
    data: StoredTensor | np.ndarray

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.type.sizes)

    def array(self) -> np.ndarray:
        """The data. Raises OSError."""
        if isinstance(self.data, StoredTensor):
            return np.asarray(StoredWeights({"": self.data}).read(""))
        return self.data

    def source(self, name: str) -> WeightSource:
        """A source that has it under `name`."""
        if isinstance(self.data, StoredTensor):
            return StoredWeights({name: self.data})
        return MemoryWeights({name: self.data})


@dataclass
class Turned:
    """A source of matrices that are stored transposed: [inputs, outputs] in the file, [outputs, inputs] as read."""

    stored: WeightSource

    def read(self, name: str) -> Any:
        """The whole matrix."""
        return np.ascontiguousarray(self.stored.read(name).T)

    def read_part(self, name: str, box: Box) -> Any:
        """A box of it."""
        rows, columns = box
        return np.ascontiguousarray(self.stored.read_part(name, (columns, rows)).T)


def read_tensor(proto: Any, model: Path, where: str) -> Tensor:
    """A TensorProto of the file `model`.

    Raises LoadError where its sizes do not agree with its data, or its data is out of bounds.
    """
    where = f"{where}: tensor {shown(proto.name)}"
    if proto.data_type not in DTYPES:
        raise LoadError(f"{where}: element type {proto.data_type} is not supported")
    if any(d < 0 for d in proto.dims) or math.prod(proto.dims) > _MOST_ELEMENTS:
        raise LoadError(f"{where}: its shape {list(proto.dims)} is not possible")
    type = Type(DTYPES[proto.data_type], tuple(proto.dims))
    size = math.prod(proto.dims) * NUMPY[type.dtype].itemsize
    if proto.data_location == 1:  # EXTERNAL
        return Tensor(proto.name, type, _external(proto, type, size, model, where))
    if proto.HasField("raw_data"):
        if len(proto.raw_data) != size:
            raise LoadError(f"{where}: {type} needs {size} bytes, and has {len(proto.raw_data)}")
        return Tensor(proto.name, type, np.frombuffer(proto.raw_data, NUMPY[type.dtype]).reshape(type.sizes))
    return Tensor(proto.name, type, _typed(proto, type, where))


def _typed(proto: Any, type: Type, where: str) -> np.ndarray:
    numbers = np.array(getattr(proto, _TYPED.get(type.dtype, "int32_data")))
    if len(numbers) != math.prod(type.sizes):
        raise LoadError(f"{where}: {type} needs {math.prod(type.sizes)} numbers, and has {len(numbers)}")
    if type.dtype in ("bf16", "f16"):  # their bits, as integers
        return numbers.astype("u2").view(NUMPY[type.dtype]).reshape(type.sizes)
    return numbers.astype(NUMPY[type.dtype]).reshape(type.sizes)


def _external(proto: Any, type: Type, size: int, model: Path, where: str) -> StoredTensor:
    entries = {e.key: e.value for e in proto.external_data}
    location = entries.get("location", "")
    path = _beside(model, location, where)
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(size)))
    except ValueError:
        raise LoadError(f"{where}: its offset and length must be numbers") from None
    try:
        available = path.stat().st_size if path.is_file() else None
    except OSError as e:
        raise LoadError(f"{path}: {e.strerror or e}") from None
    if available is None:
        raise LoadError(f"{where}: its data is to be in {shown(location)}, which is not there")
    if length != size:
        raise LoadError(f"{where}: {type} needs {size} bytes, and has {length}")
    if not 0 <= offset <= available - size:
        raise LoadError(f"{where}: bytes {offset} to {offset + size} of {shown(location)}, which has {available}")
    return StoredTensor(path, offset, type)


def _beside(model: Path, location: str, where: str) -> Path:
    """The file that a model names, in its own folder.

    In a cache of links, where the model itself is one, it may be a link to beside what the model's leads to.
    """
    named = Path(location)
    if not location or "\0" in location or named.is_absolute() or ".." in named.parts:
        raise LoadError(f"{where}: names the file {shown(location)}, which is outside of the model's folder")
    path = model.parent / named
    try:
        real, folders = path.resolve(), (model.parent.resolve(), model.resolve().parent)
    except (OSError, RuntimeError):  # links that lead to each other
        raise LoadError(f"{where}: {shown(location)} leads nowhere") from None
    if not any(real.is_relative_to(folder) for folder in folders):
        raise LoadError(f"{where}: {shown(location)} leads out of the model's folder")
    return path
