"""Weights in files: a file that is not what it was is refused, and damage is found where digests are known."""

import hashlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from burnish.ir.types import Type
from burnish.ir.weights import ReadError, StackedWeights, StoredTensor, StoredWeights

DATA = np.arange(64, dtype="f4")


def stored(file: Path) -> StoredWeights:
    """A file of one tensor, its digest known."""
    file.write_bytes(DATA.tobytes())
    digest = hashlib.sha256(DATA.tobytes()).hexdigest()
    return StoredWeights({"x": StoredTensor(file, 0, Type("f32", (64,)))}, {file: digest})


def replaced(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(DATA.tobytes())
    other.rename(file)


def written(file: Path) -> None:
    with file.open("r+b") as f:
        f.write(b"\1")
    os.utime(file, ns=(1, 1))  # a clock's tick later than it was made, however fast the test is


CHANGES: dict[str, Callable[[Path], object]] = {
    "another file in its place": replaced,
    "one byte written": written,
    "cut": lambda file: os.truncate(file, 200),
    "longer": lambda file: os.truncate(file, 300),
    "touched": lambda file: os.utime(file, ns=(1, 1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_before_it_is_read(tmp_path: Path, change: str) -> None:
    source = stored(tmp_path / "w")
    CHANGES[change](tmp_path / "w")
    with pytest.raises(ReadError, match=r"w: (was changed while it was read|ends at byte 200)"):
        source.read("x")


@pytest.mark.parametrize("change", [c for c in CHANGES if "another" not in c])
def test_a_file_that_changes_between_two_reads(tmp_path: Path, change: str) -> None:
    source = stored(tmp_path / "w")
    assert (source.read("x") == DATA).all()
    CHANGES[change](tmp_path / "w")
    with pytest.raises(ReadError):
        source.read_part("x", (slice(0, 4),))


def test_another_file_in_the_place_of_one_that_is_open_is_not_read(tmp_path: Path) -> None:
    source = stored(tmp_path / "w")
    source.read("x")
    replaced(tmp_path / "w")
    assert (source.read("x") == DATA).all()


def test_a_file_that_goes_away(tmp_path: Path) -> None:
    source = stored(tmp_path / "w")
    (tmp_path / "w").unlink()
    with pytest.raises(ReadError, match="No such file"):
        source.read("x")


def test_digests_are_compared(tmp_path: Path) -> None:
    assert stored(tmp_path / "w").verify() == 1
    assert StoredWeights({"x": StoredTensor(tmp_path / "w", 0, Type("f32", (64,)))}).verify() == 0
    wrong = StoredWeights({"x": StoredTensor(tmp_path / "w", 0, Type("f32", (64,)))}, {tmp_path / "w": "0" * 64})
    with pytest.raises(ReadError, match="w: its sha256 is not the one that was written down"):
        wrong.verify()


def test_a_stack_reads_those_parts_that_are_asked_for(tmp_path: Path) -> None:
    data = np.arange(3 * 4 * 5, dtype="f4").reshape(3, 4, 5)
    (tmp_path / "file").write_bytes(data.tobytes())
    parts = {f"w{i}": StoredTensor(tmp_path / "file", 80 * i, Type("f32", (4, 5))) for i in range(3)}
    source = StoredWeights(parts)
    stacked = StackedWeights(source, {"w": ("w2", "w0", "w1")})
    assert (stacked.read("w") == data[[2, 0, 1]]).all() and (stacked.read("w1") == data[1]).all()
    assert (stacked.read_part("w1", (slice(1, 2), slice(0, 5))) == data[1, 1:2]).all()
    before = source.bytes_read
    box = (slice(1, 3), slice(2, 4), slice(0, 5))
    assert (stacked.read_part("w", box) == data[[0, 1], 2:4]).all()
    assert source.bytes_read - before == 2 * 2 * 5 * 4
    assert stacked.read_part("w", (slice(1, 1), *box[1:])).shape == (0, 2, 5)


# ---------------------------------------------------------------------------------------------------- as tensors lie

WAYS = {  # shape, strides and offset, in elements
    "transposed": ((8, 3), (1, 8), 0),
    "of three axes": ((2, 3, 4), (4, 8, 1), 0),
    "gaps between rows": ((4, 3), (16, 1), 5),
    "gaps between elements": ((4, 3), (12, 2), 1),
    "expanded": ((3, 4, 2), (0, 2, 0), 8),
    "one number many times": ((3, 2), (0, 0), 63),
    "windows that overlap": ((5, 4), (1, 1), 2),
    "axes of one element": ((1, 4, 1), (7, 3, 0), 0),
    "a vector with gaps": ((9,), (7,), 0),
    "nothing": ((3, 0), (1, 1), 0),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_view_is_read_as_it_lies(way: str, tmp_path: Path) -> None:
    """Against NumPy's view of the same memory, whole and by every box."""
    shape, strides, offset = WAYS[way]
    (tmp_path / "w").write_bytes(DATA.tobytes())
    source = StoredWeights({"x": StoredTensor(tmp_path / "w", offset * 4, Type("f32", shape), strides)})
    view = np.lib.stride_tricks.as_strided(DATA[offset:], shape, [4 * s for s in strides])
    assert np.array_equal(source.read("x"), view) and source.read("x").flags.c_contiguous
    for box in itertools.product(*([slice(i, j) for j in range(d + 1) for i in range(j)] for d in shape)):
        assert np.array_equal(source.read_part("x", box), view[box])


def test_what_lies_together_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an element that is read is read once: of what is expanded, one copy."""
    (tmp_path / "w").write_bytes(DATA.tobytes())
    reads: list[int] = []
    monkeypatch.setattr(StoredWeights, "_pread_into", lambda self, path, at, target: reads.append(len(target)))

    def read(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> list[int]:
        reads.clear()
        StoredWeights({"x": StoredTensor(tmp_path / "w", 0, Type("f32", shape), strides)}).read("x")
        return reads

    assert read((8, 8), None) == read((8, 8), (1, 8)) == read((2, 4, 8), (8, 16, 1)) == [256]
    assert read((4, 8), (16, 1)) == [32] * 4
    assert read((100, 8), (0, 1)) == [32]
