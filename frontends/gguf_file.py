"""The GGUF container: metadata, a table of tensors, then their bytes. All of it is checked against the file's size.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (little-endian; versions 2 and 3 are read alike).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from burnish.frontends.config import LoadError, shown
from burnish.frontends.files.window import opened
from burnish.ir.format import FORMATS
from burnish.ir.types import NUMPY, InferError, Type
from burnish.ir.weights import StoredTensor

__all__ = ["GgufFile", "header_of", "read_gguf"]

LARGEST_HEADER = 64 << 20  # bytes; vocabularies of 262,144 tokens with their merges take 15 MB
MOST_ENTRIES = 1 << 16  # keys, and tensors; the largest models have some thousands of tensors
AHEAD = 1 << 16  # bytes of strings that are read at once
LONGEST_NAME = 64  # bytes of a tensor's name

_STRING, _ARRAY = 8, 9
_LENGTH = struct.Struct("<Q").unpack_from
_NUMBERS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}

# ggml_type: name, weights in a block, bytes of a block. 9 and 15 are formats of activations, never stored.
_TYPES = {
    0: ("f32", 1, 4),
    1: ("f16", 1, 2),
    2: ("q4_0", 32, 18),
    3: ("q4_1", 32, 20),
    6: ("q5_0", 32, 22),
    7: ("q5_1", 32, 24),
    8: ("q8_0", 32, 34),
    10: ("q2_k", 256, 84),
    11: ("q3_k", 256, 110),
    12: ("q4_k", 256, 144),
    13: ("q5_k", 256, 176),
    14: ("q6_k", 256, 210),
    16: ("iq2_xxs", 256, 66),
    17: ("iq2_xs", 256, 74),
    18: ("iq3_xxs", 256, 98),
    19: ("iq1_s", 256, 50),
    20: ("iq4_nl", 32, 18),
    21: ("iq3_s", 256, 110),
    22: ("iq2_s", 256, 82),
    23: ("iq4_xs", 256, 136),
    24: ("i8", 1, 1),
    25: ("i16", 1, 2),
    26: ("i32", 1, 4),
    27: ("i64", 1, 8),
    28: ("f64", 1, 8),
    29: ("iq1_m", 256, 56),
    30: ("bf16", 1, 2),
    34: ("tq1_0", 256, 54),
    35: ("tq2_0", 256, 66),
    39: ("mxfp4", 32, 17),
    40: ("nvfp4", 64, 36),
    41: ("q1_0", 128, 18),
}


@dataclass(frozen=True)
class GgufFile:
    """What the header of a file says.

    Metadata are Python numbers, truth values and strings; an array is a tuple of strings, or a NumPy array.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]


def read_gguf(path: Path) -> GgufFile:
    """The metadata and the tensors of a file. Reads the header only, in memory of a few times its size.

    A tensor's dtype is ggml's name in lower case, of a plain type or of one of FORMATS; its shape is outermost first.
    Raises LoadError for a file that is damaged, or of a kind or with a tensor type that is not supported.
    """
    with opened(path) as (file, size):
        return _read(_Reader(path, file, size))


def header_of(path: Path) -> GgufFile:
    """What `read_gguf` says, asked once of a file that nobody changes: a model, its tokenizer, its template want it."""
    try:
        about = path.stat()
    except OSError:
        return read_gguf(path)  # which says what is wrong
    return _read_once(path, about.st_ino, about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _read_once(path: Path, *version: int) -> GgufFile:
    return read_gguf(path)


class _Reader:
    """The header's bytes in order, none taken before it is known that the file has them."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.file, self.size, self.at = path, file, size, 0

    def take(self, length: int, what: str) -> bytes:
        """The next `length` bytes."""
        self.require(length, what)
        data = self.file.read(length)
        if len(data) < length:
            raise LoadError(f"{self.path}: ends inside {what}")
        self.at += length
        return data

    def require(self, length: int, what: str) -> None:
        """Refuse what would reach behind the end of the file, or of the longest header."""
        if length > self.size - self.at:
            left = self.size - self.at
            raise LoadError(f"{self.path}: {what} needs {length} bytes, but {left} are left; is the file whole?")
        if self.at + length > LARGEST_HEADER:
            raise LoadError(f"{self.path}: {what} ends behind the {LARGEST_HEADER} bytes of header that are read")

    def u32(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "little")

    def u64(self, what: str) -> int:
        return int.from_bytes(self.take(8, what), "little")

    def text(self, what: str) -> str:
        try:
            return self.take(self.u64(what), what).decode()
        except UnicodeDecodeError as e:
            raise LoadError(f"{self.path}: {what} is not UTF-8: {e.reason}") from None

    def name(self, what: str, most: int) -> str:
        """A string of 1 to `most` bytes."""
        name = self.text(what)
        if not 1 <= len(name.encode()) <= most:
            raise LoadError(f"{self.path}: {what} {shown(name)} must have 1 to {most} bytes")
        return name

    def count(self, what: str, least_bytes: int, most: int = MOST_ENTRIES) -> int:
        """A number of things of at least so many bytes each."""
        n = self.u64(f"the number of {what}")
        if n > most:
            raise LoadError(f"{self.path}: says that it has {n} {what}; at most {most} are read")
        self.require(n * least_bytes, f"a table of {n} {what}")
        return n

    def value(self, kind: int, what: str) -> Any:
        """A value of the metadata."""
        if kind == _STRING:
            return self.text(what)
        if kind == _ARRAY:
            return self.array(what)
        return self.numbers(kind, 1, what)[0].item()

    def array(self, what: str) -> tuple[str, ...] | np.ndarray:
        kind = self.u32(what)
        n = self.u64(what)
        if kind == _ARRAY:
            raise LoadError(f"{self.path}: {what} is an array of arrays, which is not supported")
        if kind == _STRING:
            self.require(n * 8, what)
            return self.texts(n, what)
        return self.numbers(kind, n, what)

    def texts(self, n: int, what: str) -> tuple[str, ...]:
        """`n` strings, hundreds of thousands in a vocabulary: many at once, of bytes read ahead."""
        found: list[str] = []
        while len(found) < n:
            begin, ahead = self.at, self.file.read(min(AHEAD, LARGEST_HEADER - self.at))
            some: list[bytes] = []
            at, last, left = 0, len(ahead) - 8, n - len(found)
            while at <= last and len(some) < left:
                (size,) = _LENGTH(ahead, at)
                if size > last - at:
                    break
                some.append(ahead[at + 8 : at + 8 + size])
                at += 8 + size
            self.at = begin + at
            self.file.seek(self.at)
            try:
                found += map(bytes.decode, some)
            except UnicodeDecodeError as e:
                raise LoadError(f"{self.path}: {what} is not UTF-8: {e.reason}") from None
            if not some:  # one that is longer than what is read ahead, or not whole
                found.append(self.text(what))
        return tuple(found)

    def numbers(self, kind: int, n: int, what: str) -> np.ndarray:
        if kind not in _NUMBERS:
            raise LoadError(f"{self.path}: {what} is of type {kind}, which GGUF does not have")
        dtype = np.dtype(_NUMBERS[kind])
        data = self.take(n * dtype.itemsize, what)
        if dtype == np.bool_ and data.strip(b"\0\1"):
            raise LoadError(f"{self.path}: {what} has a truth value that is neither 0 nor 1")
        return np.frombuffer(data, dtype)


def _read(reader: _Reader) -> GgufFile:
    path = reader.path
    if reader.take(4, "a GGUF header") != b"GGUF":
        raise LoadError(f"{path}: does not begin with GGUF")
    _check_version(path, reader.take(4, "the version"))
    tensor_count = reader.count("tensors", 24)
    key_count = reader.count("metadata keys", 13)
    metadata: dict[str, Any] = {}
    for _ in range(key_count):
        key = reader.name("a metadata key", (1 << 16) - 1)
        if key in metadata:
            raise LoadError(f"{path}: the metadata key {shown(key)} occurs twice")
        what = f"metadata {shown(key)}"
        metadata[key] = reader.value(reader.u32(what), what)
    if (parts := _integer(path, metadata, "split.count", 1)) != 1:
        raise LoadError(f"{path}: is one of {parts} parts; join them first: llama-gguf-split --merge FIRST_PART OUT")
    alignment = _integer(path, metadata, "general.alignment", 32)
    if not 8 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        raise LoadError(f"{path}: general.alignment must be a power of two from 8 to 2^20, not {alignment}")
    entries: dict[str, tuple[Type, int]] = {}
    for _ in range(tensor_count):
        name = reader.name("the name of a tensor", LONGEST_NAME)
        if name in entries:
            raise LoadError(f"{path}: tensor {shown(name)} occurs twice")
        entries[name] = _tensor(reader, f"tensor {shown(name)}", alignment)
    start = reader.at + -reader.at % alignment
    tensors = {name: StoredTensor(path, start + offset, type) for name, (type, offset) in entries.items()}
    _check_places(path, tensors, reader.size)
    return GgufFile(path, metadata, tensors)


def _check_version(path: Path, raw: bytes) -> None:
    version = int.from_bytes(raw, "little")
    if version and not version & 0xFFFF:
        raise LoadError(f"{path}: is a big-endian GGUF file, which is not supported; convert it to little-endian")
    if version not in (2, 3):
        raise LoadError(f"{path}: is of GGUF version {version}; supported are 2 and 3: convert the model again")


def _integer(path: Path, metadata: Mapping[str, Any], key: str, default: int) -> int:
    value = metadata.get(key, default)
    if type(value) is not int:
        raise LoadError(f"{path}: {key} must be an integer")
    return value


def _tensor(reader: _Reader, what: str, alignment: int) -> tuple[Type, int]:
    """A tensor's type, and where its bytes begin in the data."""
    rank = reader.u32(what)
    if rank > 4:
        raise LoadError(f"{reader.path}: {what} has {rank} axes; GGUF has at most 4")
    shape = struct.unpack(f"<{rank}Q", reader.take(8 * rank, what))[::-1]
    if any(d >= 1 << 48 for d in shape):
        raise LoadError(f"{reader.path}: {what} has the shape {shown(list(shape))}, too large for any file")
    dtype, offset = _dtype(f"{reader.path}: {what}", reader.u32(what)), reader.u64(what)
    if offset % alignment:
        raise LoadError(f"{reader.path}: {what} begins at byte {offset} of the data, no multiple of {alignment}")
    try:
        return Type(dtype, shape), offset
    except InferError as e:
        raise LoadError(f"{reader.path}: {what} is of type {dtype}, but its shape is {list(shape)}: {e}") from None


def _dtype(where: str, number: int) -> str:
    """Our name of a ggml type. A format of that name whose blocks are of another size is not ggml's."""
    if number not in _TYPES:
        raise LoadError(f"{where} is of ggml's type {number}, which is not known")
    name, weights, size = _TYPES[number]
    if name not in NUMPY and name not in FORMATS:
        known = ", ".join(n for n, _, _ in _TYPES.values() if n in NUMPY or n in FORMATS)
        raise LoadError(f"{where} is of type {name}, which is not supported; supported are {known}")
    if name in FORMATS and (FORMATS[name].group, FORMATS[name].row_bytes(weights)) != (weights, size):
        raise LoadError(
            f"{where} is of type {name}, in blocks of {weights} weights in {size} bytes, but the format of "
            f"that name has groups of {FORMATS[name].group}"
        )
    return name


def _check_places(path: Path, tensors: Mapping[str, StoredTensor], size: int) -> None:
    """Tensors lie within the file and do not overlap."""
    end, before = 0, ""
    for name, t in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].type.nbytes)):
        if t.offset < end:
            raise LoadError(f"{path}: tensors {shown(before)} and {shown(name)} overlap")
        assert isinstance(t.type.nbytes, int)
        end, before = t.offset + t.type.nbytes, name
        if end > size:
            raise LoadError(f"{path}: tensor {shown(name)} ends at byte {end}, but the file has {size}; is it whole?")
