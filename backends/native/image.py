"""Images: machine code in a file, mapped into memory without Numba or LLVM.

A file is MAGIC, the sha256 of what follows, the length of a head, the head (JSON: where each function is, and where
addresses are added), and the code, which may lie anywhere in memory once they are.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import os
import struct
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

__all__ = ["IMPORTS", "ImageError", "load_image", "pack_image", "read_image", "write_image"]

MAGIC = b"BURNISH1"
#: functions of the C library that code may call
IMPORTS = ("memcpy", "memmove", "memset", "sched_yield", "usleep")


class ImageError(ValueError):
    """A file that is no image, not a whole one, or that others may have written."""


def pack_image(code: bytes, exports: Mapping[str, int], imports: Mapping[str, list[int]]) -> bytes:
    """A file's bytes. `imports` are the places, of 8 bytes each, to which the address of a name is added; the name ""
    stands for the code itself."""
    head = json.dumps({"exports": exports, "imports": imports}, sort_keys=True).encode()
    payload = struct.pack("<I", len(head)) + head + code
    return MAGIC + hashlib.sha256(payload).digest() + payload


def read_image(path: Path) -> bytes:
    """The bytes of an image's file. Raises ImageError for a damaged or foreign one, OSError where there is none."""
    with open(path, "rb") as file:
        owner, mode = (stat := os.fstat(file.fileno())).st_uid, stat.st_mode
        data = file.read()
    if owner not in (os.geteuid(), 0) or mode & 0o022:
        raise ImageError(f"{path} belongs to somebody else, or others may write it")
    if data[:8] != MAGIC or hashlib.sha256(data[40:]).digest() != data[8:40]:
        raise ImageError(f"{path} is damaged")
    return data


def write_image(path: Path, data: bytes) -> None:
    """Write a file that nobody ever sees half of. Raises OSError where that cannot be."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    os.replace(file.name, path)


def load_image(data: bytes) -> dict[str, int]:
    """Map checked bytes into memory -> the address of each function. Raises OSError where memory cannot be run."""
    (size,) = struct.unpack_from("<I", data, 40)
    head, code = json.loads(data[44 : 44 + size]), data[44 + size :]
    memory = mmap.mmap(-1, -(-len(code) // mmap.PAGESIZE) * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[: len(code)] = code
    libc, view = ctypes.CDLL(None, use_errno=True), ctypes.c_char.from_buffer(memory)
    start = ctypes.addressof(view)
    for name, places in head["imports"].items():
        address = ctypes.cast(getattr(libc, name), ctypes.c_void_p).value if name else start
        for at in places:
            (addend,) = struct.unpack_from("<q", memory, at)
            struct.pack_into("<q", memory, at, (address or 0) + addend)
    readable_and_run = mmap.PROT_READ | mmap.PROT_EXEC
    if libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(len(memory)), readable_and_run):
        raise OSError(ctypes.get_errno(), "memory cannot be made executable")
    _KEPT.append(view)
    return {name: start + offset for name, offset in head["exports"].items()}


_KEPT: list[object] = []  # never unmapped: a thread may be in it
assert sys.byteorder == "little"  # as are the processors that there is code for
