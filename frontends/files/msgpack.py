"""Flax's msgpack files: nested dicts of arrays, of which each is a range of bytes of the file.

Formats: https://github.com/msgpack/msgpack/blob/master/spec.md, and `flax/serialization.py`: an array is the extension
1, itself msgpack of a shape, the name of a type, and the bytes in row-major order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from burnish.frontends.config import LARGEST, LoadError, shown
from burnish.frontends.files.window import Window, opened
from burnish.frontends.on_disk import begins_as
from burnish.ir.types import NUMPY, Type
from burnish.ir.weights import StoredTensor

__all__ = ["read_msgpack"]

_MOST, _DEEPEST = 1 << 18, 64  # values; dicts in dicts
_ARRAY, _CHUNKS = 1, "__msgpack_chunked_array__"
_NAMES = {str(dtype): name for name, dtype in NUMPY.items()}


class _Span(NamedTuple):
    """Bytes that are left where they are."""

    offset: int
    size: int


def read_msgpack(path: Path) -> dict[str, StoredTensor]:
    """The arrays of a file, by the keys that lead to them, joined by dots. Reads no array. Raises LoadError."""
    with opened(path) as (file, size):
        start = file.read(64)
        if known := begins_as(start):
            raise LoadError(f"{path}: {known}")
        reader = _Reader(Window(path, file, 0, size, LARGEST))
        saved = reader.value()
        if reader.data.at != size or not isinstance(saved, dict):
            raise LoadError(f"{path}: is no dict of arrays, as Flax writes it")
        inside = saved.get("params")
        return dict(_arrays(path, inside if isinstance(inside, dict) and len(saved) == 1 else saved, ()))


def _arrays(path: Path, saved: dict[Any, Any], at: tuple[str, ...]) -> Iterator[tuple[str, StoredTensor]]:
    for key, value in saved.items():
        if not isinstance(key, str) or "." in key:
            raise LoadError(f"{path}: the key {shown(key)} is no name")
        if isinstance(value, dict) and _CHUNKS not in value:
            yield from _arrays(path, value, (*at, key))
        elif isinstance(value, StoredTensor):
            yield ".".join((*at, key)), value
        else:
            what = "is in chunks, as arrays beyond 1 GiB are" if isinstance(value, dict) else "is no array"
            raise LoadError(f"{path}: {shown('.'.join((*at, key)))} {what}, which is not read")


class _Reader:
    def __init__(self, data: Window) -> None:
        self.data, self.count = data, 0

    def value(self, depth: int = 0) -> Any:
        """The next value. Numbers that are not counts, and texts of more than a name, stand for themselves."""
        self.count += 1
        if self.count > _MOST or depth > _DEEPEST:
            raise self.wrong(f"holds more than {_MOST} values, or dicts more than {_DEEPEST} deep")
        code = self.data.number(1)
        match code:
            case _ if code < 0x80:
                return code
            case _ if code < 0x90:
                return self.dict(code & 15, depth)
            case _ if code < 0xA0:
                return self.list(code & 15, depth)
            case _ if code < 0xC0:
                return self.text(code & 31)
            case 0xC0 | 0xC2 | 0xC3:
                return {0xC0: None, 0xC2: False, 0xC3: True}[code]
            case 0xC4 | 0xC5 | 0xC6:
                size = self.big(1 << code - 0xC4)
                return _Span(self.data.skip(size), size)
            case 0xC7 | 0xC8 | 0xC9:
                return self.extension(self.big(1 << code - 0xC7))
            case 0xCA | 0xCB:
                return float(self.big(4 << code - 0xCA))  # which number does not matter: none is a weight
            case 0xCC | 0xCD | 0xCE | 0xCF:
                return self.big(1 << code - 0xCC)
            case 0xD0 | 0xD1 | 0xD2 | 0xD3:
                return int.from_bytes(self.data.take(1 << code - 0xD0), "big", signed=True)
            case 0xD4 | 0xD5 | 0xD6 | 0xD7 | 0xD8:
                return self.extension(1 << code - 0xD4)
            case 0xD9 | 0xDA | 0xDB:
                return self.text(self.big(1 << code - 0xD9))
            case 0xDC | 0xDD:
                return self.list(self.big(2 << code - 0xDC), depth)
            case 0xDE | 0xDF:
                return self.dict(self.big(2 << code - 0xDE), depth)
            case _ if code >= 0xE0:
                return code - 256
        raise self.wrong(f"has the byte {code:#x} at {self.data.at - 1}, which msgpack does not use")

    def wrong(self, what: str) -> LoadError:
        return LoadError(f"{self.data.path}: {what}")

    def big(self, length: int) -> int:
        return int.from_bytes(self.data.take(length), "big")

    def text(self, length: int) -> str:
        try:
            return self.data.take(length).decode()
        except UnicodeDecodeError:
            raise self.wrong(f"a text before byte {self.data.at} is not UTF-8") from None

    def list(self, length: int, depth: int) -> tuple[Any, ...]:
        return tuple(self.value(depth + 1) for _ in range(length))

    def dict(self, length: int, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for _ in range(length):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in found:
                raise self.wrong(f"a key before byte {self.data.at} is no text, or is there twice")
            found[key] = self.value(depth + 1)
        return found

    def extension(self, length: int) -> StoredTensor:
        kind, end = self.data.number(1), self.data.at + length
        if kind != _ARRAY:
            raise self.wrong(f"holds the extension {kind} before byte {self.data.at}, which is no array of Flax's")
        match self.value():
            case (tuple(sizes), str(name), _Span(offset, size)):
                pass
            case _:
                raise self.wrong(f"an array before byte {self.data.at} is not as Flax writes one")
        dtype = _NAMES.get(name)
        if dtype is None:
            raise self.wrong(f"an array before byte {self.data.at} is of {shown(name)}, which is not supported")
        if len(sizes) > 8 or not all(isinstance(d, int) and 0 <= d < 1 << 48 for d in sizes):
            raise self.wrong(f"an array before byte {self.data.at} has the shape {shown(sizes)}, which is none")
        if math.prod(sizes) * NUMPY[dtype].itemsize != size or self.data.at != end:
            raise self.wrong(f"an array before byte {self.data.at} has {size} bytes, not those of {name}{[*sizes]}")
        return StoredTensor(self.data.path, offset, Type(dtype, sizes))
