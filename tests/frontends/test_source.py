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
    assert list(SOURCES) == ["text", "onnx", "checkpoint", "consolidated", "gguf", "package"]


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


# ----------------------------------------------------------------------------------------------- text that is no module

#: facts, statements between `forward(%x: f32[2])` and `return y=%y`, and what the message says
UNSOUND: dict[str, tuple[str, str, str]] = {
    "a text for a list of axes": ("", '%y: f32[2] = transpose(%x, perm="ab")', "perm='ab' is not of type tuple"),
    "NaN among axes": ("", "%y: f32[1] = reduce_max(%x, axes=[nan])", "axes=(nan,) is not of type tuple"),
    "a truth value among axes": ("", "%y: f32[1] = reduce_max(%x, axes=[true])", "axes=(True,) is not of type"),
    "a list for an axis": ("", "%y: f32[2] = softmax(%x, axis=[0])", "axis=(0,) is not of type int"),
    "a number for a format": ("", "%y: f32[2] = quantize(%x, format=7)", "format=7 is not of type str"),
    "a number for an element type": ("", "%y: f32[2] = cast(%x, to=32)", "to=32 is not of type str"),
    "no such element type": ("", '%y: f32[2] = cast(%x, to="f33")', "f33"),
    "a text for a size": ("", '%y: f32[5] = iota(size="5", dtype="f32")', "size='5' is not of type"),
    "a negative size": ("", '%y: f32[5] = iota(size=-5, dtype="f32")', "iota"),
    "no axis of that number": ("", "%y: f32[1] = reduce_max(%x, axes=[7])", "has no axis 7"),
    "an empty axis to reduce": (
        "",
        "%0: f32[0] = slice(%x, axis=0, start=0, stop=0) %y: f32[1] = reduce_max(%0, axes=[0])",
        "empty",
    ),
    "a type that is not what the op infers": (
        "",
        "%y: f32[3] = neg(%x)",
        "its type is f32[3], but the op infers f32[2]",
    ),
    "an If without bodies": ("", "%c: bool[1] = equal(f32([1]), f32([1])) %y: f32[2] = if(%c, %x)", "if: 0 bodies"),
    "a repeat without a body": (
        "",
        "%y: f32[2] = repeat(%x, count=2, carries=1, shared=0, states=0)",
        "needs one body",
    ),
    "a body too many": ("", "%y: f32[2] = neg(%x) { graph b(%a: f32[2]) { return a=%a } }", "has 1 bodies, needs 0"),
    "a weight that is in no table": ("", "%y: f32[2] = add(%x, @w)", "w"),
    "a weight with a symbol": ("weights { @w: f32[N] }", "%y: f32[2] = neg(%x)", "its sizes must be numbers"),
    "an infinite number that was finite": ("", "%y: f16[1] = neg(f16([1e30]))", "overflow"),
    "ends of text that are texts": ('eos = ["a"]', "%y: f32[2] = neg(%x)", "the fact eos is tuple[int, ...]"),
    "a context that is a text": ('context = "64"', "%y: f32[2] = neg(%x)", "the fact context is int | None"),
    "a first token that is none": (
        "decoder_start = 4294967296",
        "%y: f32[2] = neg(%x)",
        "the fact decoder_start is int",
    ),
    "a task that there is not": ('task = "swim"', "%y: f32[2] = neg(%x)", "the fact task is one of"),
    "a quotient by zero": ("", "%y: f32[{floordiv(S, 0)}] = neg(%x)", "divided by zero"),
    "a power that is too high": ("", "%y: f32[{S**16*S}] = neg(%x)", "of too high a power"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_text_is_verified_where_it_is_loaded(tmp_path: Path, case: str) -> None:
    facts, statements, message = UNSOUND[case]
    file = tmp_path / "model.graph"
    file.write_text(f"module {{ {facts} graph forward(%x: f32[2]) {{ {statements} return y=%y }} }}")
    with pytest.raises(LoadError) as e:
        burnish.load(file)
    assert str(e.value).startswith(f"{file}: ") and message in str(e.value) and "\n" not in str(e.value)
