"""A part of a file, read in order and in bounds: no byte is taken before it is known that it is there."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from burnish.frontends.config import LoadError

__all__ = ["Window", "opened"]

_LINE = 1024  # bytes of the longest


class Window:
    """The bytes of `file` from `at` up to `end`, of which it may take `most` into memory."""

    def __init__(self, path: Path, file: BinaryIO, at: int, end: int, most: int) -> None:
        self.path, self.at, self.end, self.most, self.left = path, at, end, most, most
        self._file = file
        file.seek(at)

    def take(self, length: int) -> bytes:
        """The next bytes. Raises LoadError."""
        if length > self.left:
            raise LoadError(f"{self.path}: what says what it holds is longer than the {self.most} bytes that are read")
        self._require(length)
        data = self._file.read(length)
        if len(data) < length:
            raise LoadError(f"{self.path}: was changed while it was read")
        self.at += length
        self.left -= length
        return data

    def number(self, length: int) -> int:
        """The next bytes as an unsigned number, little-endian."""
        return int.from_bytes(self.take(length), "little")

    def line(self) -> bytes:
        """The next bytes up to the end of a line, without it."""
        found = self._file.readline(min(_LINE, self.end - self.at))
        self._file.seek(self.at)
        data = self.take(len(found))
        if not data.endswith(b"\n"):
            raise LoadError(f"{self.path}: ends, or goes on for too long, inside a name at byte {self.at}")
        return data[:-1]

    def skip(self, length: int) -> int:
        """Where the next bytes lie in the file, which are left where they are. Raises LoadError."""
        self._require(length)
        start, self.at = self.at, self.at + length
        self._file.seek(self.at)
        return start

    def _require(self, length: int) -> None:
        if length > self.end - self.at:
            left = self.end - self.at
            raise LoadError(f"{self.path}: ends inside {length} bytes at {self.at}, of which {left} are there")


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A file, and how many bytes it has. Raises LoadError, for what is read inside too."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise LoadError(f"{path}: is not a file")
        with path.open("rb") as f:
            yield f, status.st_size
    except OSError as e:
        raise LoadError(f"{path}: {e.strerror or e}") from None
