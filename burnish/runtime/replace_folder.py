"""Writing a folder, or a file, so that it is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["replace_file", "replace_folder"]


@contextmanager
def replace_file(out: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes the place of `out` when the block ends well, and is gone otherwise.

    Pipes and devices, all of /dev, are written as they are. Raises OSError.
    """
    place = Path(os.path.realpath(out))
    as_it_is = os.path.abspath(out).startswith("/dev/") or (place.exists() and not place.is_file())
    new = place if as_it_is else place.with_name(f".{place.name}.tmp-{os.getpid()}")
    try:
        with (Path(out) if as_it_is else new).open("wb") as file:
            yield file
        if not as_it_is:
            new.replace(place)
    except BaseException as e:
        if not as_it_is:
            new.unlink(missing_ok=True)
        if isinstance(e, OSError):
            raise OSError(f"{out}: cannot be written: {e.strerror or e}") from e
        raise


@contextmanager
def replace_folder(out: Path) -> Iterator[Path]:
    """An empty folder beside `out`, which takes its place when the block ends well, and is gone otherwise.

    What a process that was killed has left is cleaned up by the next. Between two renames, and at no other moment, a
    folder that is replaced is not under its name: the next use puts it back. Raises OSError; FileExistsError where
    another process has written `out` since the block began.
    """
    out = Path(os.path.abspath(out))
    if not out.name:
        raise OSError(f"{out} is the root of the file system")
    if out.is_symlink():
        raise OSError(f"it is a link to {out.readlink()}: name the folder itself")
    out.parent.mkdir(parents=True, exist_ok=True)
    _clean(out)
    new, old = (out.with_name(f".{out.name}.{what}-{os.getpid()}") for what in ("tmp", "old"))
    before = _version(out)
    new.mkdir()
    try:
        yield new
        if before is not None:
            out.rename(old)
        if _version(old) != before or os.path.lexists(out):
            raise FileExistsError("another process has written it in the meantime; that one stays")
        new.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(new, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _version(folder: Path) -> tuple[int, int] | None:
    """What changes when a folder is replaced, or something in it is; None where it is not there."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _clean(out: Path) -> None:
    for left in sorted(out.parent.iterdir()):
        what, _, process = left.name.removeprefix(f".{out.name}.").partition("-")
        if left.name == f".{out.name}.{what}-{process}" and process.isdecimal() and not _is_running(int(process)):
            if what == "old" and not out.exists():
                left.rename(out)
            elif what in ("old", "tmp"):
                shutil.rmtree(left, ignore_errors=True)


def _is_running(process: int) -> bool:
    """Whether another process has this id; our own was a killed one's, if a folder is named after it."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return process != os.getpid()
