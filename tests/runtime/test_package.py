"""The compiled package: what is in it, that it reads back, that it is there whole or not at all."""

import ast
import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from burnish.backends.interpreter import Interpreter
from burnish.frontends import architectures
from burnish.frontends.architecture import build_module, find_architecture, parameters
from burnish.frontends.config import Config, LoadError
from burnish.frontends.files.safetensors import header_of, read_header
from burnish.frontends.stored import Tensors
from burnish.ir.guards import AllTrue
from burnish.ir.module import Module, WeightEntry
from burnish.ir.types import Type
from burnish.ir.weights import MemoryWeights, ReadError, StoredWeights
from burnish.passes.pipelines import quantized
from burnish.runtime import package
from burnish.runtime.doors import compile, optimize
from burnish.runtime.package import is_package, read_package, write_package
from burnish.runtime.parts import Plan
from burnish.runtime.token_bytes import token_bytes
from burnish.runtime.tokenizer import Tokenizer

assert architectures

LLAMA = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
T5 = {
    "vocab_size": 96, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
}  # fmt: skip


def model(name: str, config: dict[str, Any], pipeline: str = "default") -> Module:
    """A model with random weights after the passes of `pipeline`."""
    architecture, _ = find_architecture(name, Config(config))
    types = parameters(architecture, Config(config))
    rng = np.random.default_rng(0)
    arrays = {n: rng.standard_normal(t.sizes).astype("f4") * np.float32(0.1) for n, t in types.items()}
    return optimize(build_module(name, Config(config), Tensors(types, MemoryWeights(arrays))), pipeline)


def llama(pipeline: str = "default", **changes: Any) -> Module:
    return model("LlamaForCausalLM", LLAMA | changes, pipeline)


def files(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted(folder.iterdir())}


def logits(module: Module) -> np.ndarray:
    ids = np.arange(12, dtype="i4").reshape(2, 6)
    return Interpreter(module)("forward", {"ids": ids})["logits"]


# ------------------------------------------------------------------------------------------------------ what is in it


@pytest.mark.parametrize("format", ["none", "q4_0", "q8_0", "int8"])
def test_a_reloaded_package_gives_the_same_numbers(tmp_path: Path, format: str) -> None:
    module = llama(quantized(f"embedding={format};{format}"))
    before = str(module)
    write_package(module, tmp_path / "p")
    assert str(module) == before
    assert logits(read_package(tmp_path / "p")).tobytes() == logits(module).tobytes()


def test_the_parts_of_a_decoder(tmp_path: Path) -> None:
    report = write_package(llama(quantized("q4_0"), tie_word_embeddings=False), tmp_path / "p")
    assert {p: set(dtypes) for p, dtypes in report.parts.items()} == {
        "embedding": {"f32"}, "block_00": {"f32", "q4_0"}, "block_01": {"f32", "q4_0"}, "lm": {"f32", "q4_0"},
    }  # fmt: skip
    assert report.parts["embedding"] == {"f32": 96 * 64 * 4}
    assert report.parts["lm"] == {"f32": 64 * 4, "q4_0": 96 * 64 // 32 * 18}
    assert set(files(tmp_path / "p")) == {"manifest.json", "model.graph", *(f"{p}.safetensors" for p in report.parts)}
    stored, _ = read_header(tmp_path / "p" / "block_01.safetensors")
    assert [str(t.type) for t in stored.values()] == [
        "f32[64]", "u8[128, 36]", "u8[64, 36]", "f32[64]", "u8[192, 36]", "u8[64, 54]"
    ]  # fmt: skip
    assert "block_00..01: f32 512, q4_0" in report.text()
    assert report.tensors == sum(len(read_header(f)[0]) for f in (tmp_path / "p").glob("*.safetensors"))
    assert report.nbytes == sum(e.type.nbytes for e in read_package(tmp_path / "p").weights.values())


def test_a_node_still_names_its_source_tensors_and_rules(tmp_path: Path) -> None:
    module = llama(quantized("q4_0"))
    write_package(module, tmp_path / "p")
    again = read_package(tmp_path / "p")
    nodes, reloaded = ({n.origin: n.source_tensors for n in m.graphs["forward"] if n.operands} for m in (module, again))
    late = {o for o, node in ((n.origin, n) for n in module.graphs["forward"]) if node.time == "run"}
    assert {o: t for o, t in nodes.items() if o in late} == reloaded
    row = again.weights["block_00/self_attn.{q,k,v}_proj.weight"]
    assert str(row.type) == "q4_0[128, 64]"
    assert row.origin.sources == tuple(f"model.layers.0.self_attn.{x}_proj.weight" for x in "qkv")
    assert row.origin.rules == ("QuantizeWeight", "FuseQueryKeyValue")


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("embedding=q8_0;q8_0", {"embedding": {"q8_0": 6528}, "lm": {"f32": 256}}),
        ("q8_0", {"embedding": {"f32": 24576}, "lm": {"f32": 256, "q8_0": 6528}}),
    ],
)
def test_a_tied_table_is_stored_once_for_each_format(recipe: str, expected: dict[str, Any]) -> None:
    sizes = Plan.of(llama(quantized(recipe))).sizes
    assert {p: sizes[p] for p in expected} == expected


def test_the_parts_of_an_encoder_decoder(tmp_path: Path) -> None:
    module = model("T5ForConditionalGeneration", T5, quantized("embedding=q8_0;lm=q8_0;q4_0"))
    write_package(module, tmp_path / "p")
    again = read_package(tmp_path / "p")
    assert {f for f in files(tmp_path / "p") if f.endswith(".safetensors")} == {
        "embedding.safetensors", "lm.safetensors",
        *(f"{graph}.block_0{i}.safetensors" for graph in ("encoder", "decoder") for i in (0, 1)),
    }  # fmt: skip
    shared = [n for n, e in again.weights.items() if e.origin.sources == ("shared.weight",)]
    assert shared == ["embedding/shared.weight"]  # read by both graphs and the head, stored once
    ids, count = np.arange(12, dtype="i4").reshape(2, 6), np.array([6, 3], np.int32)
    hidden = [Interpreter(m)("encoder", {"ids": ids, "count": count})["hidden"] for m in (module, again)]
    assert hidden[0].tobytes() == hidden[1].tobytes()


@pytest.mark.parametrize("format", ["q4_0", "q8_0"])
def test_packed_tensors_of_three_axes(tmp_path: Path, format: str) -> None:
    """Weights of rolled blocks are stacked: [blocks, N, K]; experts are too."""
    module = llama(f"{quantized(format)},roll-blocks")
    write_package(module, tmp_path / "p")
    again = read_package(tmp_path / "p")
    rows = {n: e for n, e in again.weights.items() if e.type.rank == 3}
    assert {str(e.type) for e in rows.values()} == {
        f"{format}[2, 128, 64]", f"{format}[2, 64, 64]", f"{format}[2, 192, 64]", f"{format}[2, 64, 96]",
    }  # fmt: skip
    assert logits(again).tobytes() == logits(module).tobytes()
    (down,) = (n for n, e in rows.items() if e.type.shape == (2, 64, 96))
    assert module.source is not None and again.source is not None
    name = gguf.GGMLQuantizationType[format.upper()]
    for i in (0, 1):
        plain = module.source.read(f"model.layers.{i}.mlp.down_proj.weight")
        stored = again.source.read_part(down, (slice(i, i + 1), slice(0, 64), slice(0, 96)))
        assert stored.planes["bytes"][0].tobytes() == gguf.quants.quantize(plain, name).tobytes()
    write_package(again, tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "p")


def test_the_ops_of_guards_are_recorded_too(tmp_path: Path) -> None:
    module = guarded()
    write_package(module, tmp_path / "p")
    assert json.loads((tmp_path / "p" / "manifest.json").read_text())["ops"] == {"add": 1, "constant": 1, "equal": 1}
    edit_manifest(tmp_path / "p", lambda m: m["ops"].update(equal=0))
    with pytest.raises(LoadError, match="op equal has version 0 there, 1 here"):
        read_package(tmp_path / "p")


def test_a_package_can_be_compiled_again(tmp_path: Path) -> None:
    write_package(llama(quantized("q4_0")), tmp_path / "a")
    write_package(read_package(tmp_path / "a"), tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_names_that_meet_are_told_apart(tmp_path: Path) -> None:
    module = Module({"x": WeightEntry(Type("f32", (4,)))}, source=MemoryWeights({"x": np.ones(4, "f4")}))
    op = module.graph("forward").ops
    x = op.weight("x")
    module.graphs["forward"].set_outputs({"plain": x, "doubled": x + x, "squared": x * x, "again": x + x})
    module.normalize()
    write_package(module, tmp_path / "p")
    assert list(read_package(tmp_path / "p").weights) == ["lm/x", "lm/x.2", "lm/x.3"]


def guarded() -> Module:
    """A graph and a guard, each with a long constant."""
    module = Module()
    graph, guard = module.graph("forward"), Module().graph("guard")
    x = graph.input("x", Type("f32", (16,)))
    graph.set_outputs({"y": x + graph.ops.constant(np.arange(16, dtype="f4"))})
    guard.module = module
    ones = guard.ops.constant(np.ones(16, "i4"))
    guard.set_outputs({"ok": guard.ops.equal(ones, ones)})
    module.guards.append(AllTrue("all is well", guard))
    module.normalize()
    return module


def test_long_constants_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    module = guarded()
    write_package(module, tmp_path / "p")
    assert len(read_header(tmp_path / "p" / "constants.safetensors")[0]) == 2
    assert read_package(tmp_path / "p") == module


def test_progress_counts_the_bytes_of_the_tensors(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    report = write_package(llama(), tmp_path / "p", progress=lambda *a: seen.append(a))
    assert seen[-1][1:] == (report.nbytes, report.nbytes)
    assert [s[1] for s in seen] == sorted(s[1] for s in seen)


def test_weights_are_read_from_the_files_as_they_are_asked_for(tmp_path: Path) -> None:
    write_package(llama(quantized("embedding=q4_0;q4_0")), tmp_path / "p")
    source = read_package(tmp_path / "p").source
    assert isinstance(source, StoredWeights) and source.bytes_read == 0
    row = source.read_part("embedding/model.embed_tokens.weight", (slice(7, 8), slice(0, 64)))
    assert row.shape == (1, 64) and source.bytes_read == 36


def test_to_read_one_imports_nothing_that_other_models_need(tmp_path: Path) -> None:
    write_package(llama(), tmp_path / "out")
    code = f"""import sys, burnish
burnish.executable(burnish.load({str(tmp_path / "out")!r})).stateful
print([m for m in sys.modules if m.startswith(("burnish.frontends", "burnish.runtime.weight_time", "jax", "numba"))])"""
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    names = "frontends frontends.config frontends.on_disk frontends.source frontends.files frontends.files.safetensors"
    wanted = {f"burnish.{name}" for name in [*names.split(), "frontends.files.window"]}
    assert set(ast.literal_eval(ran.stdout)) == wanted


def test_the_module_needs_its_weights(tmp_path: Path) -> None:
    module = llama()
    module.source = None
    with pytest.raises(LoadError, match="graph text holds no weights: compile the model"):
        write_package(module, tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------- tokenizers


def tokenizer_json(kind: str) -> str:
    import tokenizers
    from tokenizers import decoders, models

    words = {"<s>": 0, "a": 1}
    match kind:
        case "letters":
            made = tokenizers.Tokenizer(models.BPE({**words, "Ġhi": 2, "Ã": 3, "Ċ": 4}, []))
            made.decoder = decoders.ByteLevel()
        case "sentencepiece":
            vocabulary = {**words, "▁hi": 2, "<0x0A>": 3, "é": 4}
            made = tokenizers.Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
            made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        case "unigram":
            made = tokenizers.Tokenizer(models.Unigram([("<s>", 0.0), ("a", -1.0), ("▁hi", -2.0)], unk_id=0))
            made.decoder = decoders.Metaspace()
        case _:
            made = tokenizers.Tokenizer(models.WordPiece({**words, "##hi": 2, "#": 3}, unk_token="<s>"))
            made.decoder = decoders.WordPiece()
    made.add_special_tokens(["<s>", "Ġ"])
    return made.to_str()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("letters", [b"<s>", b"a", b" hi", b"\xc3", b"\n", "Ġ".encode()]),
        ("sentencepiece", [b"<s>", b"a", b" hi", b"\n", "é".encode(), "Ġ".encode()]),
        ("unigram", [b"<s>", b"a", b" hi", "Ġ".encode()]),
        ("wordpiece", [b"<s>", b"a", b"hi", b"#", "Ġ".encode()]),
    ],
)
def test_the_bytes_that_tokens_stand_for(kind: str, expected: list[bytes]) -> None:
    assert token_bytes(tokenizer_json(kind)) == expected


def test_the_bytes_of_a_text_are_those_of_its_tokens(tmp_path: Path) -> None:
    import tokenizers

    file = Path(__file__).parents[2] / "examples" / "tiny-lm" / "tokenizer.json"
    write_package(llama(), tmp_path / "p", tokenizer=Tokenizer.load(file))
    assert (tmp_path / "p" / "tokenizer.json").read_bytes() == file.read_bytes()
    lines = (tmp_path / "p" / "tokenizer.txt").read_bytes().splitlines()
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    assert len(lines) == tokenizer.get_vocab_size()
    text = "Once upon a time, 12 + 34 = 46: naïve – 日本\n"
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert b"".join(base64.b64decode(lines[i]) for i in ids).decode() == text


def test_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(LoadError, match=r"tokenizer\.json: is not a tokenizer"):
        compile(llama(), tmp_path / "p", tokenizer=tmp_path / "tokenizer.json")
    assert not (tmp_path / "p").exists()


# ---------------------------------------------------------------------------------------------- whole or not at all


def fail_at(number: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Callable[[], int]:
    """Let the write of that number fail; returns how many there were."""
    count = 0

    def put(file: Any, piece: Any) -> int:
        nonlocal count
        count += 1
        if count - 1 == number:
            file.write(bytes(piece)[:7])
            raise error
        return int(file.write(piece))

    monkeypatch.setattr(package, "_put", put)
    return lambda: count


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
def test_a_failure_at_any_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    module, other = llama(), llama(quantized("q4_0"))
    write_package(module, tmp_path / "old")
    before = files(tmp_path / "old")
    writes = fail_at(-1, monkeypatch, error)
    write_package(other, tmp_path / "new")
    for i in range(writes()):
        for name in ("old", "fresh"):
            fail_at(i, monkeypatch, error)
            with pytest.raises(LoadError if isinstance(error, OSError) else KeyboardInterrupt):
                write_package(other, tmp_path / name, force=True)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old"]
    assert files(tmp_path / "old") == before


KILLED = """
import os, sys
from pathlib import Path
from burnish.runtime import package
from tests.runtime.test_package import llama

number, out = int(sys.argv[1]), Path(sys.argv[2])
count = 0

def put(file, piece):
    global count
    count += 1
    if count > number:
        file.flush()
        os._exit(9)
    return file.write(piece)

def rename(old, new):
    os.rename(old, new)
    os._exit(9)

package._put = put
Path.rename = rename
package.write_package(llama("recover,quantize-weights{recipe=q4_0},fuse"), out, force=True)
"""


def killed(number: int, out: Path) -> list[Path]:
    """What lies beside `out` after a process that was to replace it is killed at that write."""
    root = Path(__file__).parents[2]
    process = subprocess.run([sys.executable, "-c", KILLED, str(number), str(out)], cwd=root, check=False)
    assert process.returncode == 9
    return [p for p in out.parent.iterdir() if p != out]


@pytest.mark.parametrize("number", [*(pytest.param(n, marks=pytest.mark.slow) for n in (0, -1)), 8])
def test_a_process_that_is_killed_leaves_the_old_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    module, out = llama(), tmp_path / "p"
    writes = fail_at(-1, monkeypatch, OSError())
    write_package(module, out)
    before = files(out)
    (left,) = killed(number % writes(), out)
    with pytest.raises(LoadError):
        read_package(left)
    assert files(out) == before
    write_package(module, out, force=True)
    assert list(tmp_path.iterdir()) == [out]  # what was left is cleaned up
    assert files(out) == before


def test_a_process_that_is_killed_between_the_two_renames(tmp_path: Path) -> None:
    module, out = llama(), tmp_path / "p"
    write_package(module, out)
    before = files(out)
    left = killed(10**9, out)
    assert not out.exists()
    assert before in [files(p) for p in left]
    with pytest.raises(LoadError, match="--force"):
        write_package(module, out)
    assert [files(p) for p in tmp_path.iterdir()] == [before]  # the next use has put it back


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / f".p.tmp-{os.getppid()}"
    theirs.mkdir()
    write_package(llama(), tmp_path / "p")
    assert theirs.exists()


def test_force_replaces_a_package_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "p"
    out.mkdir()
    write_package(llama(), out)  # an empty folder is not in the way
    with pytest.raises(LoadError, match="--force"):
        write_package(llama(), out)
    (out / "stray.txt").write_text("left over")
    write_package(llama(), out, force=True)
    assert not (out / "stray.txt").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("")
    for name in ("mine", "file"):
        with pytest.raises(LoadError, match="is not a package"):
            write_package(llama(), tmp_path / name, force=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


# -------------------------------------------------------------------------------------------------------- damaged ones


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Change a file, and the manifest so that it agrees."""
    import hashlib

    (folder / name).write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(folder, lambda m: m["files"].update({name: entry}))


def edit_graph(folder: Path, old: str, new: str) -> None:
    text = (folder / "model.graph").read_text()
    assert old in text
    rewrite(folder, "model.graph", text.replace(old, new).encode())


def drop_tensor(folder: Path) -> None:
    file = folder / "lm.safetensors"
    found, _ = read_header(file)
    kept = {n: t.type for n, t in list(found.items())[1:]}
    rewrite(folder, "lm.safetensors", header_of(kept) + bytes(sum(int(t.nbytes) for t in kept.values())))


def add_tensor(folder: Path) -> None:
    data = header_of({"lm/extra": Type("f32", (1,))}) + bytes(4)
    rewrite(folder, "more.safetensors", data)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "manifest.json"),
    "half a manifest": (lambda p: (p / "manifest.json").write_text('{"format": '), "not JSON"),
    "a list": (lambda p: (p / "manifest.json").write_text("[]"), "not a JSON object"),
    "another format": (lambda p: edit_manifest(p, lambda m: m.update(format="zip")), "'zip' 3"),
    "a newer version": (lambda p: edit_manifest(p, lambda m: m.update(version=4)), "Compile the model again"),
    "no files": (lambda p: edit_manifest(p, lambda m: m.pop("files")), "must list"),
    "files is a list": (lambda p: edit_manifest(p, lambda m: m.update(files=["model.graph"])), "must list"),
    "no graph": (lambda p: edit_manifest(p, lambda m: m["files"].pop("model.graph")), "must list"),
    "an op of a plugin": (lambda p: edit_manifest(p, lambda m: m["ops"].update(mystery=1)), "'mystery' is not known"),
    "an older op": (lambda p: edit_manifest(p, lambda m: m["ops"].update(rope=0)), "op rope has version 0 there"),
    "a path": (lambda p: edit_manifest(p, lambda m: m["files"].update({"../x": {}})), "none of the package"),
    "a name that none has": (
        lambda p: edit_manifest(p, lambda m: m["files"].update({"a\0": {}})),
        "none of the package",
    ),
    "no digest": (lambda p: edit_manifest(p, lambda m: m["files"].update(x={"bytes": 1})), "needs bytes and sha256"),
    "a missing part": (lambda p: (p / "lm.safetensors").unlink(), "lm.safetensors: No such file"),
    "a part is a folder": (lambda p: ((p / "lm.safetensors").unlink(), (p / "lm.safetensors").mkdir()), "not a file"),
    "a truncated part": (lambda p: os.truncate(p / "lm.safetensors", 100), "has 100 bytes, not"),
    "a changed graph": (
        lambda p: (p / "model.graph").write_text((p / "model.graph").read_text().replace("silu", "relu")),
        "sha256 is not that of manifest.json",
    ),
    "not text": (lambda p: rewrite(p, "model.graph", b"\xff\xfe"), "model.graph"),
    "not a graph": (lambda p: rewrite(p, "model.graph", b"module {"), "line 1"),
    "an unsound graph": (lambda p: edit_graph(p, "%0.0: f32[B, S, 64]", "%0.0: f32[B, S, 63]"), "model.graph"),
    "a tensor of another type": (lambda p: edit_graph(p, "norm.weight: f32[64]", "norm.weight: f16[64]"), "says f16"),
    "a tensor too few": (drop_tensor, "is in none of the parts"),
    "a tensor too many": (add_tensor, "'lm/extra' is not in model.graph"),
    "a tensor twice": (lambda p: rewrite(p, "x.safetensors", (p / "lm.safetensors").read_bytes()), "in another part"),
    "not safetensors": (lambda p: rewrite(p, "lm.safetensors", b"\x08" + bytes(7) + b"[1,2,3] "), "JSON object"),
    "missing constants": (lambda p: edit_manifest(p, lambda m: m["files"].pop("constants.safetensors")), "is missing"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("sound") / "p"
    write_package(llama(quantized("q4_0"), head_dim=32), out)
    return out


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_package_is_refused(tmp_path: Path, sound: Path, damage: str) -> None:
    import shutil

    shutil.copytree(sound, tmp_path / "p")
    read_package(tmp_path / "p")
    change, message = DAMAGES[damage]
    change(tmp_path / "p")
    with pytest.raises(LoadError, match=message):
        read_package(tmp_path / "p")


def flip(file: Path, at: int) -> None:
    """Change one bit of a file, as a disk may."""
    data = bytearray(file.read_bytes())
    data[at] ^= 4
    file.write_bytes(data)


def test_a_changed_weight_is_found_where_digests_are_asked_for(tmp_path: Path) -> None:
    write_package(llama(), tmp_path / "p")
    flip(tmp_path / "p" / "block_01.safetensors", -5)
    source = read_package(tmp_path / "p").source
    assert isinstance(source, StoredWeights)
    with pytest.raises(ReadError, match=r"block_01.safetensors: its sha256"):
        source.verify()


def test_damage_is_not_compiled_into_new_digests(tmp_path: Path) -> None:
    write_package(llama(), tmp_path / "p")
    flip(tmp_path / "p" / "lm.safetensors", -5)
    with pytest.raises(LoadError, match=r"lm.safetensors: its sha256"):
        write_package(read_package(tmp_path / "p"), tmp_path / "q")
    assert not (tmp_path / "q").exists()


def test_what_is_no_package(tmp_path: Path, sound: Path) -> None:
    assert is_package(sound)
    assert not is_package(tmp_path) and not is_package(tmp_path / "nowhere") and not is_package(sound / "model.graph")
    (tmp_path / "manifest.json").write_text("{}")
    assert not is_package(tmp_path)
