"""Zip archives: each entry is a range of bytes of the file, to be read where it is stored as it is.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (the central directory counts, with zip64).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from burnish.frontends.config import LoadError, shown

__all__ = ["Entry", "check_stored", "read_zip"]

_LARGEST, _MOST = 24 << 20, 1 << 17  # bytes of a directory; entries in it
_END = struct.Struct("<4s4H2LH")  # signature, disks, entries, size and offset of the directory, length of a comment
_END64_AT = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 1 | 1 << 6 | 1 << 13
_ELSEWHERE = 0xFFFFFFFF  # a number that a field of zip64 holds


@dataclass(frozen=True)
class Entry:
    """Where the bytes of an entry lie."""

    offset: int
    size: int
    compressed: bool = False


def read_zip(path: Path, file: BinaryIO, size: int) -> dict[str, Entry]:
    """The entries of an archive by name. Raises LoadError for one that is damaged or encrypted."""
    count, start, end = _directory(path, file, size)
    raw = os.pread(file.fileno(), end - start, start)
    entries: dict[str, Entry] = {}
    spans: list[tuple[int, int, str]] = []
    at = 0
    for _ in range(count):
        if len(raw) - at < _ENTRY.size or raw[at : at + 4] != b"PK\1\2":
            raise LoadError(f"{path}: its directory is damaged, or says that it has {count} entries")
        _, _, _, flags, method, _, _, _, packed, length, named, extra, comment, *_, where = _ENTRY.unpack_from(raw, at)
        at += _ENTRY.size
        name = _text(path, raw[at : at + named])
        length, packed, where = _wide(raw[at + named : at + named + extra], length, packed, where)
        at += named + extra + comment
        what = f"{path}: entry {shown(name)}"
        if name in entries:
            raise LoadError(f"{what} is there twice")
        if flags & _ENCRYPTED:
            raise LoadError(f"{what} is encrypted, which is not read")
        if not method and packed != length:
            raise LoadError(f"{what} has two sizes, {packed} and {length} bytes")
        entries[name] = Entry(_data(path, file, where, name), packed, bool(method))
        spans.append((where, entries[name].offset + packed, name))
    if at != len(raw):
        raise LoadError(f"{path}: its directory says that it has {count} entries, but goes on behind them")
    last, before = 0, ""
    for first, behind, name in sorted(spans):
        if first < last or behind > start:
            other = shown(before) if first < last else "the directory"
            raise LoadError(f"{path}: entry {shown(name)} overlaps {other}")
        last, before = behind, name
    return entries


def check_stored(path: Path, entries: Mapping[str, Entry]) -> None:
    """Raise LoadError where an entry is compressed: nothing is unpacked."""
    if packed := next((name for name, entry in entries.items() if entry.compressed), ""):
        raise LoadError(f"{path}: entry {shown(packed)} is compressed, which is not read: write it again without that")


def _directory(path: Path, file: BinaryIO, size: int) -> tuple[int, int, int]:
    """How many entries there are, and where the directory begins and ends."""
    tail = os.pread(file.fileno(), min(size, 1 << 10), max(0, size - (1 << 10)))
    end = size - _END.size
    if len(tail) < _END.size or tail[-_END.size :][:4] != b"PK\5\6" or tail[-2:] != b"\0\0":
        raise LoadError(f"{path}: does not end as a zip archive does; is the file whole?")
    *_, count, length, start, _ = _END.unpack(tail[-_END.size :])
    at = tail[-_END.size - _END64_AT.size : -_END.size]
    if at[:4] == b"PK\6\7":
        end -= _END64_AT.size + _END64.size
        wide = tail[-_END.size - _END64_AT.size - _END64.size :][: _END64.size]
        if wide[:4] != b"PK\6\6" or _END64_AT.unpack(at)[2] != end:
            raise LoadError(f"{path}: its end is damaged")
        narrow, (*_, count, length, start) = (count, length, start), _END64.unpack(wide)
        if any(n not in (w, 0xFFFF, _ELSEWHERE) for n, w in zip(narrow, (count, length, start), strict=True)):
            raise LoadError(f"{path}: its end says two things of its directory")
    if start + length != end:
        raise LoadError(f"{path}: its directory is not where its end says, or has another size")
    if length > _LARGEST or count > _MOST:
        raise LoadError(f"{path}: its directory has {length} bytes and {count} entries, more than are read")
    return count, start, end


def _wide(extra: bytes, *numbers: int) -> list[int]:
    """The numbers, those that do not fit taken from the extra field of zip64."""
    found = list(numbers)
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == 1:
            for i, n in enumerate(found):
                if n == _ELSEWHERE and len(field) >= 8:
                    found[i], field = int.from_bytes(field[:8], "little"), field[8:]
    return found


def _data(path: Path, file: BinaryIO, where: int, name: str) -> int:
    """Where the data of an entry begins, behind what stands before it: that is aligned by a field of any length."""
    wanted = name.encode()
    raw = os.pread(file.fileno(), _LOCAL.size + len(wanted), where)
    if len(raw) < _LOCAL.size or raw[:4] != b"PK\3\4":
        raise LoadError(f"{path}: entry {shown(name)} is not where the directory says")
    *_, named, extra = _LOCAL.unpack_from(raw)
    if raw[_LOCAL.size :] != wanted or named != len(wanted):
        raise LoadError(f"{path}: entry {shown(name)} has another name where it lies")
    return where + _LOCAL.size + int(named) + int(extra)


def _text(path: Path, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise LoadError(f"{path}: the name of an entry is not UTF-8: {shown(raw)}") from None
