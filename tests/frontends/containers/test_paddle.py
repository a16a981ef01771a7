"""The same weights as Paddle stores them are the same model, to the bit."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import burnish
from burnish.frontends.config import LoadError
from burnish.frontends.files.paddle import read_paddle
from burnish.ir.weights import StoredWeights
from tests import models
from tests.conventions import as_paddle, parameters_of

MODELS: dict[str, Callable[[], Any]] = {"bert": models.bert, "llama": models.llama, "t5": models.t5}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("named", [False, True])
def test_a_file_of_paddle(name: str, protocol: int, named: bool, tmp_path: Path) -> None:
    """Square matrices (BERT's queries) too: the form of the file says that they are turned."""
    model = MODELS[name]()
    module = burnish.load(as_paddle(model, tmp_path / "paddle", protocol, named))
    assert module.source.bytes_read == 0
    assert parameters_of(module) == parameters_of(burnish.load(models.saved(model, tmp_path / "safe")))


def test_sixteen_bits_are_of_bfloat16(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(pickle.dumps({"a": np.array([0x3F80, 0xC000], "u2")}, 4))
    tensors = read_paddle(tmp_path / "w")
    assert StoredWeights(tensors).read("a").astype("f4").tolist() == [1.0, -2.0]


class Runs:
    def __reduce__(self) -> Any:
        return exec, ("open('canary', 'w').close()",)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (pickle.dumps({"a": np.ones(3, "f4")}, 2), "'a' is bytes of pickle's protocol 2: save it with protocol=4"),
        (pickle.dumps({"a": Runs()}, 4), "calls 'builtins.exec', which is none of what weights are made of"),
        (pickle.dumps(Runs(), 4), "calls 'builtins.exec'"),
        (pickle.dumps({"a": np.array([{}])}, 4), "is no array as NumPy pickles one"),
        (pickle.dumps({"a": np.asfortranarray(np.ones((2, 3)))}, 4), "is no array as NumPy pickles one, row-major"),
        (pickle.dumps({"a": np.ones(2, ">f4")}, 4), "is no array as NumPy pickles one, row-major and little-endian"),
        (pickle.dumps({"a": np.array(["x"])}, 4), "is of 'U1'"),
        (pickle.dumps({"a": 3}, 4), "'a' is no array"),
        (pickle.dumps({3: np.ones(2)}, 4), "has an array without a name"),
        (pickle.dumps([1], 4), "is no dict of arrays"),
        (pickle.dumps({"a": np.ones(2)}, 4) + b"x", "is no dict of arrays"),
        (pickle.dumps({"a": np.ones(2)}, 4).replace(b"K\x02\x85", b"K\x03\x85"), "is not of the 16 bytes"),
        (b"PK\3\4" + bytes(60), "is a zip archive"),
        (b"", "is empty"),
    ],
)
def test_what_is_refused(raw: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w").write_bytes(raw)
    with pytest.raises(LoadError, match=message) as e:
        read_paddle(tmp_path / "w")
    assert str(e.value).startswith(f"{tmp_path / 'w'}: ") and not (tmp_path / "canary").exists()
