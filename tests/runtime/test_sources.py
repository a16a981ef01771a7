"""From a path to a module: what kind it is, plugins, the tokenizer beside it."""

from pathlib import Path

import pytest

import burnish
from burnish.frontends.config import LoadError
from burnish.ir import OPS
from burnish.runtime.sources import kind_of, load_plugins, tokenizer_of
from tests import models


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return models.saved(models.llama(), tmp_path_factory.mktemp("llama"))


def test_every_way_to_a_model_gives_the_same_graph(checkpoint, tmp_path) -> None:
    module = burnish.load(checkpoint)
    (tmp_path / "model.graph").write_text(str(module))
    burnish.compile(module, tmp_path / "package")
    kinds = {
        checkpoint: "checkpoint",
        checkpoint / "model.safetensors": "checkpoint",
        tmp_path / "model.graph": "text",
        tmp_path / "package": "package",
    }
    assert {source: kind_of(source) for source in kinds} == kinds
    assert str(burnish.load(checkpoint / "model.safetensors")) == str(module)
    assert str(burnish.load(tmp_path / "model.graph")) == str(module)
    again = burnish.load(tmp_path / "package")
    ops = [[n.op for n in m.graphs["forward"] if n.time == "run"] for m in (module, again)]
    assert ops[0] == ops[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere: there is no such file or folder"),
        ("", "cannot tell what this is; known are "),
        ("model.docx", "model.docx: cannot tell what this is; known are a .graph file (text), an .onnx file (onnx), "),
        ("onnx", "a folder with a params.json and consolidated.* files (consolidated), a .gguf file (gguf), "),
    ],
)
def test_what_is_no_model(tmp_path, name: str, message: str) -> None:
    if name not in ("nowhere", ""):
        (tmp_path / name).write_bytes(b"?")
    with pytest.raises(LoadError) as e:
        kind_of(tmp_path / name)
    assert message in str(e.value)


@pytest.mark.parametrize("text", [b"module {", b"\xff\xfe", b"", b"\0" * 100])
def test_text_that_is_no_graph(tmp_path, text: bytes) -> None:
    (tmp_path / "x.graph").write_bytes(text)
    with pytest.raises(LoadError, match=r"x\.graph: "):
        burnish.load(tmp_path / "x.graph")


def test_the_tokenizer_is_beside_the_model(tmp_path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert tokenizer_of(tmp_path) is None
    models.byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        tokenizer = tokenizer_of(path)
        assert tokenizer is not None and tokenizer.text.encode() == (tmp_path / "tokenizer.json").read_bytes()
        assert tokenizer.decode(tokenizer.encode("naïve")) == "naïve"


PLUGIN = """
from burnish.ir.op import Op
class Shrug(Op):
    "does nothing"
    def infer(self, x):
        return x
"""


def test_a_plugin_is_loaded_once(registries, tmp_path) -> None:
    file = tmp_path / "shrug_once.py"
    file.write_text(PLUGIN)
    load_plugins([file])
    op = OPS["shrug"]
    load_plugins([file, file])
    assert OPS["shrug"] is op


@pytest.mark.parametrize(
    ("text", "message"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("def f(:", "SyntaxError"), ("raise SystemError('no')", "no")],
)
def test_a_plugin_that_fails_is_named(tmp_path, text: str, message: str) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(text)
    for _ in range(2):  # and is not taken for loaded
        with pytest.raises(LoadError, match=r"plugin .*wrong\.py: .*" + message):
            load_plugins([file])
