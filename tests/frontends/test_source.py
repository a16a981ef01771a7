"""Sources: a plugin's is asked before ours, and brings a tokenizer that is no file."""

import json
from pathlib import Path

import pytest

import burnish
from burnish.frontends.config import LoadError
from burnish.frontends.source import SOURCES, find_source, read_tokenizer
from burnish.ir.discover import load_plugin
from burnish.runtime.sources import kind_of, tokenizer_of
from tests import models

PLUGIN = """
import json
from burnish.frontends.source import Source

class Zipped(Source):
    "Graph text and a tokenizer in one file."
    name = "zipped"
    form = "a .zipped file"

    def matches(self, path):
        return path.suffix in (".zipped", ".graph")

    def load(self, path):
        from burnish.ir import parse
        return parse(json.loads(path.read_text())["graph"])

    def tokenizer(self, path):
        return json.loads(path.read_text()).get("tokenizer")
"""
GRAPH = """module {
  graph forward(%x: f32[N]) {
    %0: f32[N] = exp(%x) <- "y"
    return y=%0
  }
}
"""


def test_the_order_of_definition() -> None:
    assert burnish.load, "all of ours are there"
    assert list(SOURCES) == ["text", "onnx", "checkpoint", "gguf", "package"]


@pytest.mark.parametrize(
    ("files", "path", "source"),
    [
        (["config.json"], "", "checkpoint"),
        (["config.json", "manifest.json"], "", "package"),
        (["x.safetensors"], "x.safetensors", "checkpoint"),
        (["x.ONNX"], "x.ONNX", "onnx"),
        (["x.txt"], "x.txt", "text"),
        (["x.onnx/config.json"], "x.onnx", "checkpoint"),
        ([], "", None),
        (["x.onnx/y"], "x.onnx", None),
    ],
    ids=str,
)
def test_a_source_is_known_by_sight(files: list[str], path: str, source: str | None, tmp_path: Path) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    if source is not None:
        assert find_source(tmp_path / path).name == source
        return
    with pytest.raises(LoadError, match=r"cannot tell what this is; known are a \.graph file"):
        find_source(tmp_path / path)


def test_a_source_of_a_plugin(registries: None, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    tokenizer = models.byte_tokenizer().to_str()
    for name, content in (("a", {"graph": GRAPH, "tokenizer": tokenizer}), ("b", {"graph": GRAPH})):
        (tmp_path / f"{name}.zipped").write_text(json.dumps(content))
    with pytest.raises(LoadError, match=r"a\.zipped: cannot tell what this is"):
        kind_of(tmp_path / "a.zipped")
    load_plugin(tmp_path / "plugin.py")
    assert kind_of(tmp_path / "a.zipped") == "zipped"
    assert str(burnish.load(tmp_path / "a.zipped")) == GRAPH
    found = tokenizer_of(tmp_path / "a.zipped")
    assert found is not None and found.text == tokenizer and found.decode(found.encode("ab")) == "ab"
    assert tokenizer_of(tmp_path / "b.zipped") is None
    (tmp_path / "x.graph").write_text(json.dumps({"graph": GRAPH, "tokenizer": "?"}))
    assert kind_of(tmp_path / "x.graph") == "zipped", "what was defined last is asked first"
    with pytest.raises(LoadError, match=r"the tokenizer of .*x\.graph: is not a tokenizer"):
        tokenizer_of(tmp_path / "x.graph")
    (tmp_path / "nothing").write_text("")
    with pytest.raises(LoadError, match=r"a folder with a manifest\.json \(package\), a \.zipped file \(zipped\)"):
        kind_of(tmp_path / "nothing")


def test_two_sources_of_one_name(registries: None, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN.replace('"zipped"', '"onnx"'))
    with pytest.raises(TypeError, match=r"source 'onnx' is defined in .*source\.py and in .*plugin\.py"):
        load_plugin(tmp_path / "plugin.py")


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_tokenizer_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(LoadError, match=r"tokenizer\.json: "):
        read_tokenizer(tmp_path / "tokenizer.json")


def test_a_tokenizer_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as f:
        f.truncate((256 << 20) + 1)
    with pytest.raises(LoadError, match="268435457 bytes are too many for a tokenizer"):
        read_tokenizer(tmp_path / "tokenizer.json")
