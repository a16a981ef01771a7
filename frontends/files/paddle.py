"""What `paddle.save` writes of a model: a pickle of NumPy's arrays by name, whose bytes are in the pickle.

Format: `paddle/framework/io.py`, with pickle's protocol 3 and later, which keeps bytes as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.frontends.config import LARGEST, LoadError, shown
from burnish.frontends.files.unpickler import Calls, Inert, Record, Span, read_pickle
from burnish.frontends.files.window import Window, opened
from burnish.frontends.on_disk import begins_as
from burnish.ir.types import NUMPY, Type
from burnish.ir.weights import StoredTensor

__all__ = ["read_paddle"]

#: the names that Paddle itself gave the parameters, beside those of their modules
_NAMES = "StructuredToParameterName@@"
_TYPES = {f"{dtype.kind}{dtype.itemsize}": name for name, dtype in NUMPY.items() if name != "bf16"}
_TYPES["u2"] = "bf16"  # NumPy has no such type; no weight is an integer of 16 bits


@dataclass(eq=False)
class _Dtype(Record):
    kind: Any
    order: Any = "|"

    def build(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1:
            self.order = state[1]


@dataclass(eq=False)
class _Array(Record):
    """(version, shape, type, whether it lies by columns, bytes)"""

    state: Any = None

    def build(self, state: Any) -> None:
        self.state = state


_CALLS: Calls = {
    **{f"numpy.{core}.multiarray._reconstruct": lambda *arguments: _Array() for core in ("core", "_core")},
    "numpy.dtype": lambda kind, *more: _Dtype(kind),
    "builtins.tuple": lambda items: items,
    "collections.OrderedDict": lambda: {},
    "_codecs.encode": lambda *arguments: Inert("bytes of pickle's protocol 2: save it with protocol=4"),
}


def read_paddle(path: Path) -> dict[str, StoredTensor]:
    """The arrays of a file by name. Reads no array. Raises LoadError."""
    with opened(path) as (file, size):
        start = file.read(64)
        if not start.startswith(b"\x80"):
            raise LoadError(f"{path}: {begins_as(start) or 'is nothing that paddle.save writes'}")
        window = Window(path, file, 0, size, LARGEST)
        saved = read_pickle(window, _CALLS)
        if not isinstance(saved, dict) or window.at != size:
            raise LoadError(f"{path}: is no dict of arrays, as paddle.save writes a state_dict")
        return {name: _tensor(path, name, value) for name, value in _named(path, saved).items()}


def _named(path: Path, saved: Mapping[Any, Any]) -> dict[str, Any]:
    named = {n: v for n, v in saved.items() if n != _NAMES}
    if not all(isinstance(n, str) for n in named):
        raise LoadError(f"{path}: has an array without a name")
    return {n: v[1] if isinstance(v, tuple) and len(v) == 2 else v for n, v in named.items()}


def _tensor(path: Path, name: str, value: Any) -> StoredTensor:
    where = f"{path}: {shown(name)}"
    match value.state if isinstance(value, _Array) else None:
        case (_, tuple(sizes), _Dtype(str(kind), "<" | "|"), False, Span(offset, size)):
            dtype = _TYPES.get(kind)
        case (*_, Inert(what)):
            raise LoadError(f"{where} is {what}")
        case _:
            raise LoadError(f"{where} is no array as NumPy pickles one, row-major and little-endian")
    if dtype is None or len(sizes) > 8 or not all(isinstance(d, int) and 0 <= d < 1 << 48 for d in sizes):
        raise LoadError(f"{where} is of {shown(kind)}{shown(sizes)}, which is not supported")
    if math.prod(sizes) * NUMPY[dtype].itemsize != size:
        raise LoadError(f"{where}: {dtype}{[*sizes]} is not of the {size} bytes that it has")
    return StoredTensor(path, offset, Type(dtype, sizes))
