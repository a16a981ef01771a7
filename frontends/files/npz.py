"""NumPy's `.npz`: a zip archive of arrays by name, each a header and the bytes behind it.

Format: `numpy/lib/_format_impl.py`, versions 1 and 2.
"""

from __future__ import annotations

import ast
import itertools
import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from burnish.frontends.config import LoadError, shown
from burnish.frontends.files.window import Window, opened
from burnish.frontends.files.zip import Entry, check_stored, read_zip
from burnish.ir.types import NUMPY, Type
from burnish.ir.weights import StoredTensor

__all__ = ["read_npz"]

_LONGEST = 10_000  # bytes of a header, as NumPy has it
_MAGIC = b"\x93NUMPY"
_WIDTHS = {1: 2, 2: 4}  # of the length of a header, by version
_NAMES = {dtype: name for name, dtype in NUMPY.items()}


def read_npz(path: Path) -> dict[str, StoredTensor]:
    """The arrays of a file by name, with dots for slashes. Reads headers only. Raises LoadError."""
    with opened(path) as (file, size):
        entries = read_zip(path, file, size)
        check_stored(path, entries)
        if other := next((n for n in entries if not n.endswith(".npy")), ""):
            raise LoadError(f"{path}: holds {shown(other)}, which is no array")
        return {
            name.removesuffix(".npy").replace("/", "."): _array(path, file, name, entry)
            for name, entry in entries.items()
        }


def _array(path: Path, file: BinaryIO, name: str, entry: Entry) -> StoredTensor:
    where = f"{path}: array {shown(name)}"
    data = Window(path, file, entry.offset, entry.offset + entry.size, _LONGEST)
    magic = data.take(min(8, entry.size))
    if len(magic) < 8 or magic[:6] != _MAGIC or magic[6] not in _WIDTHS or magic[7]:
        raise LoadError(f"{where} is not as NumPy writes one, in version 1 or 2")
    header = data.take(data.number(_WIDTHS[magic[6]]))
    try:
        says = ast.literal_eval(header.decode("latin-1").strip())
        dtype, by_columns, sizes = np.dtype(says["descr"]), says["fortran_order"], says["shape"]
    except (KeyError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise LoadError(f"{where} has a damaged header") from None
    if dtype not in _NAMES:
        what = "holds objects, which are pickled" if dtype.hasobject else f"is of {shown(dtype.str)}"
        raise LoadError(f"{where} {what}, which is not supported")
    good = isinstance(sizes, tuple) and all(isinstance(d, int) and 0 <= d < 1 << 48 for d in sizes)
    if not good or len(sizes) > 8:
        raise LoadError(f"{where} has the shape {shown(sizes)}, which is none")
    left = data.end - data.at
    if math.prod(sizes) * dtype.itemsize != left:
        raise LoadError(f"{where}: {dtype.name}{[*sizes]} is not of the {left} bytes that it has")
    strides = tuple(itertools.accumulate((1, *sizes[:-1]), lambda a, b: a * b)) if by_columns and sizes else None
    return StoredTensor(path, data.at, Type(_NAMES[dtype], tuple(sizes)), strides)
