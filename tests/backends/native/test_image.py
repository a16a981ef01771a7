"""Images: what is not whole, not ours, or not what its name says is refused; what is read runs."""

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from burnish.backends.native import image
from burnish.backends.native.image import ImageError, load_image, pack_image, read_image, write_image

ADD_FIVE = bytes.fromhex("48 8d 47 05 c3")  # lea rax, [rdi + 5]; ret
FOUND = (
    bytes.fromhex("48 b8") + bytes(8) + bytes.fromhex("c3")
)  # movabs rax, the 8 bytes that an address is added to; ret
ADDED = pack_image(ADD_FIVE, {"add": 0}, {})


def called(address: int, argument: int = 0) -> int:
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(argument)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_image(tmp_path / "kept" / "add.bin", ADDED)
    return tmp_path / "kept" / "add.bin"


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`memory_runs` asks anew, and again after the test."""
    image.memory_runs.cache_clear()
    yield
    monkeypatch.undo()
    image.memory_runs.cache_clear()


def test_code_runs_from_a_file(file: Path) -> None:
    assert called(load_image(read_image(file))["add"], 37) == 42


def test_addresses_are_added_where_the_image_says() -> None:
    code = FOUND + FOUND
    found = load_image(pack_image(code, {"own": 0, "theirs": 11}, {"": [2], "memcpy": [13]}))
    assert called(found["own"]) == found["own"]
    assert called(found["theirs"]) == ctypes.cast(ctypes.CDLL(None).memcpy, ctypes.c_void_p).value


def test_it_is_bound_anew_each_time_that_it_is_loaded() -> None:
    bound = pack_image(FOUND, {"table": 0}, {"bound": [2]})
    tables = [load_image(bound, address)["table"] for address in (1000, 2000)]
    assert [called(t) for t in tables] == [1000, 2000]


def test_no_byte_of_a_file_can_change(file: Path) -> None:
    whole = file.read_bytes()
    for i in range(len(whole)):
        file.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :])
        with pytest.raises(ImageError, match=r"add\.bin is damaged"):
            read_image(file)
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(ImageError, match="is damaged"):
            read_image(file)
    file.write_bytes(whole + b"\0")
    with pytest.raises(ImageError, match="is damaged"):
        read_image(file)
    file.write_bytes(whole)
    assert read_image(file) == ADDED


def test_an_image_stands_under_its_own_name(file: Path) -> None:
    other = file.rename(file.with_name("subtract.bin"))
    with pytest.raises(ImageError, match=r"subtract\.bin is damaged"):
        read_image(other)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o777])
def test_what_others_may_write_is_refused_unless_it_lies_among_sources(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ImageError, match="belongs to somebody else, or others may write it"):
        read_image(file)
    assert read_image(file, private=False) == ADDED


def test_what_belongs_to_somebody_else_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(file, 65534, -1)
    else:
        monkeypatch.setattr(image.os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ImageError, match="belongs to somebody else"):
        read_image(file)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.bin")
    with pytest.raises(ImageError, match=r"pipe\.bin is no file"):
        read_image(tmp_path / "pipe.bin")
    with pytest.raises(OSError, match="directory"):
        read_image(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "missing.bin")


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(image.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_image(tmp_path / "add.bin", ADDED)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    code = f"""
import resource, signal, pathlib
from burnish.backends.native.image import write_image
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write_image(pathlib.Path({str(tmp_path)!r}) / "large.bin", bytes(1000))
except OSError as e:
    print("refused:", e.strerror)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "refused: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_memory_that_may_not_be_run_is_noticed(held: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert image.memory_runs()
    image.memory_runs.cache_clear()

    class Hardened:
        def __init__(self, *_: object, **__: object) -> None: ...

        def mprotect(self, *_: object) -> int:
            ctypes.set_errno(errno.EACCES)
            return -1

    monkeypatch.setattr(image.ctypes, "CDLL", Hardened)
    with pytest.raises(OSError, match="memory that was written may not be run"):
        load_image(ADDED)
    assert not image.memory_runs()
