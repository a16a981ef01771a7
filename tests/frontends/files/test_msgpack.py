"""Flax's files of msgpack: arrays are where they lie, and what lies about that is refused with one message."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from burnish.frontends.config import LoadError
from burnish.frontends.files.msgpack import read_msgpack
from burnish.ir.types import NUMPY
from burnish.ir.weights import StoredWeights
from tests.conventions import msgpack

ARRAY = np.arange(6, dtype="f4").reshape(2, 3)


def test_every_type_and_shape(tmp_path: Path) -> None:
    arrays = {n: np.ones((2, 3), d) for n, d in NUMPY.items()} | {"no axis": np.array(1.5), "none": np.ones((0, 2))}
    arrays |= {"bf16": np.arange(6).astype(ml_dtypes.bfloat16), "a name of more than thirty-one letters": ARRAY}
    (tmp_path / "w").write_bytes(msgpack({"a": {"b": arrays}}))
    tensors = read_msgpack(tmp_path / "w")
    source = StoredWeights(tensors)
    assert list(tensors) == [f"a.b.{n}" for n in arrays]
    for name, array in arrays.items():
        read = source.read(f"a.b.{name}")
        assert read.dtype == array.dtype and read.shape == array.shape and read.tobytes() == array.tobytes()


def extension(kind: int, inside: bytes) -> bytes:
    return b"\xc7" + bytes([len(inside), kind]) + inside


def array(shape: Any = (2, 3), dtype: str = "float32", data: bytes = ARRAY.tobytes()) -> bytes:
    return b"\x81\xa1a" + extension(1, msgpack((shape, dtype, data)))


CASES: dict[str, tuple[bytes, str]] = {
    "a shape of other bytes": (array((2, 4)), "not those of float32"),
    "a shape that overflows": (array((1 << 30, 1 << 30, 1 << 30)), "not those of float32"),
    "a type that there is not": (array(dtype="float8_e4m3fn"), "'float8_e4m3fn', which is not supported"),
    "pickled objects": (array(dtype="object"), "'object', which is not supported"),
    "nine axes": (array((1,) * 9, data=bytes(4)), "which is none"),
    "a shape that is a text": (array("x"), "not as Flax writes one"),
    "a complex number": (b"\x81\xa1a" + extension(2, b"\x92\x01\x02"), "the extension 2"),
    "a pickle of msgpack-numpy": (b"\x81\xa1a" + extension(80, b"x"), "the extension 80"),
    "an extension with bytes left": (b"\x81\xa1a" + extension(1, msgpack(((1,), "int8", b"x")) + b"\0"), "has 1 bytes"),
    "an array over 1 GiB": (msgpack({"a": {"__msgpack_chunked_array__": 1, "shape": {}}}), "'a' is in chunks"),
    "a number": (msgpack({"a": 3}), "'a' is no array"),
    "a key twice": (b"\x82\xa1a\xc0\xa1a\xc0", "is there twice"),
    "a key that is a number": (b"\x81\x01\xc0", "is no text"),
    "a key with a dot": (msgpack({"a.b": ARRAY}), "'a.b' is no name"),
    "a key that is not UTF-8": (b"\x81\xa1\xff\xc0", "not UTF-8"),
    "a list": (b"\x91\xc0", "is no dict of arrays"),
    "more behind it": (msgpack({"a": ARRAY}) + b"x", "is no dict of arrays"),
    "half of it": (msgpack({"a": ARRAY})[:-1], "ends inside"),
    "nothing": (b"", "is empty"),
    "a dict of 2**32": (b"\xdf\xff\xff\xff\xff", "ends inside"),
    "a list of 2**32": (b"\x81\xa1a\xdd\xff\xff\xff\xff", "ends inside"),
    "a text of 2**32": (b"\xdb\xff\xff\xff\xff", "longer than the"),
    "bytes of 2**32": (b"\x81\xa1a\xc6\xff\xff\xff\xff", "ends inside"),
    "dicts in dicts": (b"\x81\xa1a" * 100_000, "more than 64 deep"),
    "lists in lists": (b"\x81\xa1a" + b"\x91" * 100_000, "more than 64 deep"),
    "more values than are read": (
        b"\x81\xa1a\xdd" + struct.pack(">I", 1 << 18) + b"\xc0" * (1 << 18),
        "more than 262144",
    ),
    "a byte that there is not": (b"\xc1", "the byte 0xc1 at 0"),
    "another file": (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of git-lfs"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_lies_is_refused(case: str, tmp_path: Path) -> None:
    raw, message = CASES[case]
    (tmp_path / "w").write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(LoadError, match=message) as e:
            read_msgpack(tmp_path / "w")
        assert tracemalloc.get_traced_memory()[1] < (1 << 20) + 64 * min(len(raw), 1 << 18)
    finally:
        tracemalloc.stop()
    assert str(e.value).startswith(f"{tmp_path / 'w'}: ") and len(str(e.value)) < 1000


def test_a_byte_that_is_another_is_refused_or_reads_what_is_in_the_file(tmp_path: Path) -> None:
    raw = msgpack({"params": {"a": {"kernel": ARRAY, "bias": ARRAY[0]}, "b": ARRAY}})
    for at in range(len(raw)):
        (tmp_path / "w").write_bytes(raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :])
        try:
            tensors = read_msgpack(tmp_path / "w")
        except LoadError:
            continue
        for name in tensors:
            StoredWeights(tensors).read(name)
