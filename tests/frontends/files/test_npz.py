"""Models in `.npz` files: names and shapes say how their weights lie, or they are refused."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import burnish
from burnish.frontends.config import LoadError
from burnish.frontends.files.npz import read_npz
from burnish.ir.types import NUMPY
from burnish.ir.weights import StoredWeights
from tests import models
from tests.conventions import arrays_of, as_npz, flax_names, parameters_of

MODELS: dict[str, Callable[[], Any]] = {"bert": models.bert, "llama": models.llama, "t5": models.t5}


@pytest.mark.parametrize("name", MODELS)
def test_either_naming_is_the_same_model(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    expected = parameters_of(burnish.load(models.saved(model, tmp_path / "safe")))
    torchs = burnish.load(as_npz(model, tmp_path / "torch"))
    assert torchs.source.bytes_read == 0
    flax = {n.replace(".", "/"): a for n, a in flax_names(model).items()}  # as views: they lie by columns
    assert parameters_of(torchs) == expected
    assert parameters_of(burnish.load(as_npz(model, tmp_path / "flax", flax) / "weights.npz")) == expected


def test_square_matrices_that_nothing_tells_about_are_refused(tmp_path: Path) -> None:
    square = models.llama(intermediate_size=64, num_key_value_heads=4, tie_word_embeddings=True)
    with pytest.raises(LoadError, match=r"all its matrices are square, and nothing says .* into a model\.safetensors"):
        burnish.load(as_npz(square, tmp_path / "a"))
    names = burnish.load(as_npz(square, tmp_path / "b", flax_names(square)))  # kernels are [inputs, outputs]
    assert parameters_of(names) == parameters_of(burnish.load(models.saved(square, tmp_path / "safe")))


def test_matrices_that_lie_the_other_way_are_refused_by_their_shapes(tmp_path: Path) -> None:
    model = models.bert()
    turned = {n: a.T if a.ndim == 2 and "embedding" not in n else a for n, a in arrays_of(model).items()}
    with pytest.raises(LoadError, match=r"another shape .*intermediate\.dense\.weight' is f32\[64, 96\]"):
        burnish.load(as_npz(model, tmp_path, turned))


def test_every_type_and_order(tmp_path: Path) -> None:
    arrays = {n: np.arange(24).reshape(2, 3, 4).astype(d) for n, d in NUMPY.items() if n != "bf16"}
    arrays |= {"by columns": np.asfortranarray(arrays["f32"]), "turned": arrays["i16"].T, "none": np.ones((3, 0))}
    arrays |= {"one": np.array(3.0), "a/b": np.ones(2)}
    np.savez(tmp_path / "w.npz", **arrays)
    tensors = read_npz(tmp_path / "w.npz")
    for name, array in arrays.items():
        read = StoredWeights(tensors).read(name.replace("/", "."))
        assert read.dtype == array.dtype and np.array_equal(read, array) and read.shape == array.shape


def header(text: str, version: bytes = b"\1\0") -> bytes:
    raw = text.encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(raw)) + raw


def archive(content: bytes, name: str = "a.npy", how: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as z:
        z.writestr(name, content)
    return out.getvalue()


def saved(array: np.ndarray, **options: bool) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


F32 = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"
CASES: dict[str, tuple[bytes, str]] = {
    "objects": (archive(saved(np.array([{}]), allow_pickle=True)), "holds objects, which are pickled"),
    "text": (archive(saved(np.array(["a"]))), "is of '<U1'"),
    "bfloat16, as NumPy writes it": (archive(saved(np.ones(2, ml_dtypes.bfloat16))), r"is of '(<|\|)V2', which is not"),
    "other bytes first": (archive(saved(np.ones(2, ">f4"))), "is of '>f4'"),
    "compressed": (archive(saved(np.zeros(9999)), how=zipfile.ZIP_DEFLATED), "is compressed, which is not read"),
    "no array": (archive(b"hello", "a.txt"), "holds 'a.txt', which is no array"),
    "a version of tomorrow": (archive(header(F32 % "(1,)", b"\x09\0") + bytes(4)), "in version 1 or 2"),
    "three bytes": (archive(b"abc"), "is not as NumPy writes one"),
    "a shape of more bytes": (archive(header(F32 % "(2,)") + bytes(4)), "is not of the 4 bytes"),
    "a shape that overflows": (archive(header(F32 % "(1 << 62, 4)") + bytes(4)), "a damaged header"),
    "a huge shape": (archive(header(F32 % "(99999999999999999999,)") + bytes(4)), "the shape"),
    "a size less than nothing": (archive(header(F32 % "(-1,)") + bytes(4)), "which is none"),
    "nine axes": (archive(header(F32 % ((1,) * 9,)) + bytes(4)), "which is none"),
    "code in place of a header": (archive(header("__import__('os').system('touch canary')")), "a damaged header"),
    "a header that is nested": (archive(header("(" * 9000)), "a damaged header"),
    "a header longer than the file": (archive(b"\x93NUMPY\1\0\xff\xff{}"), "longer than the 10000 bytes"),
    "a header without end": (archive(b"\x93NUMPY\2\0\xff\xff\xff\xff{}"), "longer than the 10000 bytes that are read"),
    "no archive": (b"hello", "does not end as a zip archive does"),
}


@pytest.mark.filterwarnings("ignore")  # NumPy's, of a dtype that it does not know
@pytest.mark.parametrize("case", CASES)
def test_what_lies_is_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw, message = CASES[case]
    (tmp_path / "w.npz").write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(LoadError, match=message) as e:
            read_npz(tmp_path / "w.npz")
        assert tracemalloc.get_traced_memory()[1] < 1 << 21
    finally:
        tracemalloc.stop()
    assert str(e.value).startswith(f"{tmp_path / 'w.npz'}: ") and not (tmp_path / "canary").exists()
