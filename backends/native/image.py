"""Images: machine code in a file, mapped into memory without Numba or LLVM.

An image is the length of a head, the head (JSON: where each function is, and where addresses are added), and the code,
which may lie anywhere in memory once they are. Its file is MAGIC, the sha256 of the file's name and the image, and the
image: what is damaged, not whole, or stands under another name is never run.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import mmap
import os
import stat
import struct
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

__all__ = ["IMPORTS", "SHIPPED", "ImageError", "load_image", "memory_runs", "pack_image", "read_image", "write_image"]

MAGIC = b"BURNISH2"
CODE_AT = len(MAGIC) + hashlib.sha256().digest_size
SHIPPED = Path(__file__).with_name("images")  # a folder for each instruction set: what a wheel brings
#: the table of words that a unit is bound to, each time that it is loaded
BOUND = "bound"
#: what code may take the address of: functions of the C library, and that
IMPORTS = ("free", "malloc", "memcpy", "memmove", "memset", "sched_yield", "usleep", BOUND)


class ImageError(ValueError):
    """A file that is no image, not a whole one, or that others may have written."""


def pack_image(code: bytes, exports: Mapping[str, int], imports: Mapping[str, list[int]]) -> bytes:
    """An image. `exports` are functions by where they begin; `imports` the places, of 8 bytes each, to which the
    address of a function of the C library is added, or under the name "" that of the code itself.
    """
    head = json.dumps({"exports": exports, "imports": imports}, sort_keys=True).encode()
    return struct.pack("<I", len(head)) + head + code


def read_image(path: Path, private: bool = True) -> bytes:
    """The image in a file. Raises ImageError for a damaged one, OSError where there is none.

    A `private` one is refused, too, that somebody else than this user or root owns or may write.
    """
    # not to wait, should it be a pipe
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ImageError(f"{path} is no file")
        if private and (about.st_uid not in (os.geteuid(), 0) or about.st_mode & 0o022):
            raise ImageError(f"{path} belongs to somebody else, or others may write it")
        data = file.read()
    if data[:CODE_AT] != _seal(path, data[CODE_AT:]):
        raise ImageError(f"{path} is damaged")
    return data[CODE_AT:]


def write_image(path: Path, image: bytes) -> None:
    """Write a file that nobody ever sees half of. Raises OSError where that cannot be, and leaves nothing then."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with open(handle, "wb") as file:
            file.write(_seal(path, image) + image)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _seal(path: Path, image: bytes) -> bytes:
    return MAGIC + hashlib.sha256(path.name.encode() + b"\0" + image).digest()


def load_image(image: bytes, bound: int = 0) -> dict[str, int]:
    """Map an image into memory -> the address of each function. Raises OSError where memory may not be run.

    `bound` is the address of the table that it is bound to, of one that is.
    """
    (size,) = struct.unpack_from("<I", image)
    head, code = json.loads(image[4 : 4 + size]), image[4 + size :]
    memory = mmap.mmap(-1, len(code), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = code
    libc, view = ctypes.CDLL(None, use_errno=True), ctypes.c_char.from_buffer(memory)
    start = ctypes.addressof(view)
    for name, places in head["imports"].items():
        ours = {"": start, BOUND: bound}
        address = ours[name] if name in ours else ctypes.cast(getattr(libc, name), ctypes.c_void_p).value or 0
        for at in places:
            (addend,) = struct.unpack_from("<q", memory, at)
            struct.pack_into("<q", memory, at, address + addend)
    if libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(len(code)), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "memory that was written may not be run")
    _KEPT.append(view)
    return {name: start + offset for name, offset in head["exports"].items()}


@functools.cache
def memory_runs() -> bool:
    """Whether memory that was written may be run: a hardened system may refuse that."""
    try:
        load_image(pack_image(b"\xc3", {}, {}))
    except OSError:
        return False
    return True


_KEPT: list[object] = []  # never unmapped: a thread may be in it
assert sys.byteorder == "little"  # as are the processors that there is code for
