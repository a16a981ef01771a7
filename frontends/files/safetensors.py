"""The safetensors format: a header of JSON, then the tensors' bytes. Everything is checked against the file's size.

Format: https://huggingface.co/docs/safetensors (u64 little-endian header length, header, data).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.frontends.config import LARGEST, LoadError, parse_object, shown
from burnish.frontends.files.window import opened
from burnish.frontends.on_disk import begins_as
from burnish.ir.types import NUMPY, Type
from burnish.ir.weights import StoredTensor

__all__ = ["header_of", "read_header"]

_DTYPES = {
    "BOOL": "bool",
    "I8": "i8",
    "I16": "i16",
    "I32": "i32",
    "I64": "i64",
    "U8": "u8",
    "U16": "u16",
    "U32": "u32",
    "U64": "u64",
    "BF16": "bf16",
    "F16": "f16",
    "F32": "f32",
    "F64": "f64",
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def header_of(types: Mapping[str, Type]) -> bytes:
    """What a file of these tensors begins with; their bytes follow in this order. Quantized ones are stored as U8."""
    entries, end = {}, 0
    for name, stored in ((name, type.storage) for name, type in types.items()):
        start, size = end, stored.nbytes
        assert isinstance(size, int)
        end += size
        entries[name] = {"dtype": _NAMES[stored.dtype], "shape": list(stored.sizes), "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)  # the data is aligned
    return len(header).to_bytes(8, "little") + header


def read_header(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors of a file, and its metadata. Reads the header only.

    Raises LoadError for a header that is damaged, or that does not agree with the size of the file.
    """
    with opened(path) as (file, size):
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > size - 8:
            if known := begins_as(prefix + file.read(56)):
                raise LoadError(f"{path}: {known}")
            raise LoadError(f"{path}: says that its header has {length} bytes, but the file has {size}")
        if length > LARGEST:  # the format allows 100 MB, which take gigabytes to parse
            raise LoadError(f"{path}: its header has {length} bytes, more than the {LARGEST} that are read")
        raw = file.read(length)
    header = parse_object(raw, f"{path}: its header")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise LoadError(f"{path}: its __metadata__ is not a JSON object")
    tensors = {name: _tensor(path, name, entry, 8 + length, size) for name, entry in header.items()}
    _check_order(path, tensors, 8 + length, size)
    return tensors, {str(k): str(v) for k, v in metadata.items()}


def _tensor(path: Path, name: str, entry: Any, start: int, size: int) -> StoredTensor:
    def fault(what: str) -> LoadError:
        return LoadError(f"{path}: tensor {shown(name)}: {what}")

    if not name.isascii() and any("\ud800" <= c <= "\udfff" for c in name):  # half of a pair: UTF-8 cannot say it
        raise fault("its name is not Unicode")
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise fault("its entry needs dtype, shape and data_offsets")
    dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise fault(f"dtype {shown(entry['dtype'])} is not supported")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _counts(shape) or len(shape) > 8:
        raise fault(f"its shape {shown(shape)} is not a list of sizes")
    if not _counts(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size - start:
        raise fault(f"its data_offsets {shown(offsets)} do not lie in the {size - start} bytes of data")
    wanted = NUMPY[dtype].itemsize
    for d in shape:
        wanted *= d
    if wanted != offsets[1] - offsets[0]:
        raise fault(f"{entry['dtype']}{shape} needs {wanted} bytes, has {offsets[1] - offsets[0]}")
    return StoredTensor(path, start + offsets[0], Type(dtype, tuple(shape)))


def _counts(x: Any) -> bool:
    return isinstance(x, list) and all(isinstance(d, int) and not isinstance(d, bool) and 0 <= d < 1 << 48 for d in x)


def _check_order(path: Path, tensors: dict[str, StoredTensor], start: int, size: int) -> None:
    """Tensors must neither overlap nor leave bytes between them: the format has no holes."""
    end, before = start, "the header"
    for name, t in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].type.nbytes)):
        if t.offset != end:
            what = "overlap" if t.offset < end else "leave bytes between them"
            raise LoadError(f"{path}: {before} and tensor {shown(name)} {what}")
        assert isinstance(t.type.nbytes, int)
        end, before = t.offset + t.type.nbytes, f"tensor {shown(name)}"
    if end != size:
        raise LoadError(f"{path}: {size - end} bytes follow the last tensor")
