"""Files that lie, or are damaged: one clear LoadError each, in little memory; what is sound beside them loads."""

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from burnish.frontends.architecture import ARCHITECTURES
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from tests import models

Header = dict[str, Any]
LLAMA = {"num_hidden_layers": 1, "vocab_size": 32}


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return models.saved(models.llama(**LLAMA), tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Path:
    return models.saved(models.llama(**LLAMA), tmp_path_factory.mktemp("sharded"), max_shard_size="40KB")


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    return shutil.copytree(sound, tmp_path / "model")


def refused(source: Path) -> str:
    """The message: one line that says where."""
    with pytest.raises(LoadError) as e:
        load_checkpoint(source)
    text = str(e.value)
    assert "\n" not in text and len(text) < 20_000
    assert str(source if source.is_dir() else source.parent) in text
    return text


def with_header(file: Path, change: Callable[[Header], Any]) -> None:
    """The file again, its header changed; what `change` returns, if anything, takes its place."""
    data = file.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:end])
    changed = change(header)
    raw = changed if isinstance(changed, bytes) else json.dumps(header if changed is None else changed).encode()
    file.write_bytes(struct.pack("<Q", len(raw)) + raw + data[end:])


def first(header: Header) -> Header:
    """The entry of the tensor that lies first in the data."""
    return min((e for n, e in header.items() if n != "__metadata__"), key=lambda e: e["data_offsets"])


def twice(header: Header) -> bytes:
    text = json.dumps(header)
    return ('{"lm_head.weight": ' + json.dumps(header["lm_head.weight"]) + ", " + text[1:]).encode()


def overlap(header: Header) -> None:
    """Two tensors of one size, at one place."""
    k, v = (header[f"model.layers.0.self_attn.{n}_proj.weight"] for n in "kv")
    v["data_offsets"] = k["data_offsets"]


HEADERS: dict[str, tuple[Callable[[Header], Any], str]] = {
    "an offset past the end": (lambda h: first(h).update(data_offsets=[0, 1 << 40]), "do not lie in the"),
    "an offset before the start": (lambda h: first(h).update(data_offsets=[-8, 8]), "do not lie in the"),
    "offsets that run backwards": (lambda h: first(h).update(data_offsets=[64, 0]), "do not lie in the"),
    "offsets that are no numbers": (lambda h: first(h).update(data_offsets=["0", "8"]), "do not lie in the"),
    "three offsets": (lambda h: first(h).update(data_offsets=[0, 1, 2]), "do not lie in the"),
    "overlapping tensors": (overlap, "overlap"),
    "a shape too large for its bytes": (lambda h: first(h).update(shape=[1 << 40, 1 << 40]), "needs .* bytes, has"),
    "a shape that overflows 64 bits": (lambda h: first(h).update(shape=[1 << 47] * 8), "needs .* bytes, has"),
    "a negative size": (lambda h: first(h).update(shape=[-1]), "is not a list of sizes"),
    "a fractional size": (lambda h: first(h).update(shape=[1.5]), "is not a list of sizes"),
    "a shape that is none": (lambda h: first(h).update(shape="[64]"), "is not a list of sizes"),
    "nine axes": (lambda h: first(h).update(shape=[1] * 9), "is not a list of sizes"),
    "a dtype of another size": (lambda h: first(h).update(dtype="BF16"), "needs .* bytes, has"),
    "an unknown dtype": (lambda h: first(h).update(dtype="F31"), "dtype 'F31' is not supported"),
    "a dtype that is none": (lambda h: first(h).update(dtype=[]), "dtype .* is not supported"),
    "an entry that is none": (lambda h: h.update({"model.norm.weight": 3}), "needs dtype, shape and data_offsets"),
    "metadata that is none": (lambda h: h.update({"__metadata__": [1]}), "__metadata__ is not a JSON object"),
    "a tensor twice": (twice, "'lm_head.weight' occurs twice"),
    "not JSON": (lambda h: b"{" + b"x" * 64, "is not JSON"),
    "not text": (lambda h: b"\xff" * 64, "is not JSON"),
    "a list": (lambda h: [h], "is not a JSON object"),
    "nothing": (lambda h: b"", "its header: is empty"),
    "nested too deep": (lambda h: b'{"a":' * 100_000, "is not JSON"),
    "no tensors": (lambda h: {}, "bytes follow the last tensor"),
    "bytes of no tensor": (lambda h: h.pop("lm_head.weight") and None, "leave bytes between them|bytes follow"),
    "another type of the right size": (lambda h: first(h).update(dtype="I32"), "or of another float type"),
    "a name with half a pair": (lambda h: {"\ud800": first(h)} | h, "its name is not Unicode"),
    "a name of a megabyte": (lambda h: {**h, "x" * 1_000_000: first(h)}, "overlap"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers(folder, case) -> None:
    change, message = HEADERS[case]
    file = folder / "model.safetensors"
    with_header(file, change)
    for source in (folder, file):
        with pytest.raises(LoadError, match=message):
            load_checkpoint(source)
        assert len(refused(source)) < 1000


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_truncated_files(folder, kept) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    for source in (folder, file):
        assert "model.safetensors" in refused(source)


def test_bytes_after_the_end(folder) -> None:
    with (folder / "model.safetensors").open("ab") as f:
        f.write(b"more")
    assert "4 bytes follow the last tensor" in refused(folder)


@pytest.mark.parametrize("length", [(1 << 64) - 1, 1 << 62, 1 << 31])
def test_a_header_that_says_it_is_longer_than_the_file(folder, length) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(struct.pack("<Q", length) + file.read_bytes()[8:])
    for source in (folder, file):
        assert f"says that its header has {length} bytes" in refused(source)


@pytest.mark.parametrize("what", ["a folder", "a pipe", "a dangling link"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_is_no_file(folder, name, what) -> None:
    file = folder / name
    file.unlink()
    match what:
        case "a folder":
            file.mkdir()
        case "a pipe":
            os.mkfifo(file)
        case _:
            file.symlink_to("nowhere")
    assert str(folder) in refused(folder)


# --------------------------------------------------------------------------------------------------------------- index


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "a/b.safetensors", "..", ".", "", "a\0b"])
def test_an_index_leads_nowhere_else(sharded, tmp_path, name) -> None:
    folder = shutil.copytree(sharded, tmp_path / "model")
    shutil.copy(next(folder.glob("*.safetensors")), tmp_path / "outside.safetensors")
    with_index(folder, lambda m: m.update({"model.norm.weight": name}))
    assert "is not one of the model's folder" in refused(folder)


def with_index(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = folder / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    change(index["weight_map"])
    file.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update({"model.norm.weight": "absent.safetensors"}), "files are not there: absent.safetensors"),
        (lambda m: m.update({"model.norm.weight": 3}), "needs a weight_map"),
        (lambda m: m.update({"no.such.tensor": m["model.norm.weight"]}), "tensor 'no.such.tensor' is not in"),
        (lambda m: m.update({"model.norm.weight": m["model.embed_tokens.weight"]}), "'model.norm.weight' is not in"),
    ],
)
def test_an_index_that_is_not_true(sharded, tmp_path, change, message) -> None:
    folder = shutil.copytree(sharded, tmp_path / "model")
    with_index(folder, change)
    assert message in refused(folder)


def test_a_tensor_in_two_shards(sharded, tmp_path) -> None:
    folder = shutil.copytree(sharded, tmp_path / "model")
    shutil.copy(next(folder.glob("*.safetensors")), folder / "again.safetensors")
    with_index(folder, lambda m: m.update({"copy": "again.safetensors"}))
    assert "is in another shard too" in refused(folder)


# -------------------------------------------------------------------------------------------------------------- config

HUGE = 10**400
CONFIGS = {
    "hidden_size": [0, -64, 64.0, "64", None, True, float("nan"), HUGE, [64], {}, 1 << 24, 65],
    "num_attention_heads": [0, -4, 3, 5, 1 << 23, "four", float("inf"), HUGE],
    "num_key_value_heads": [0, 3, 8, -1, HUGE],
    "head_dim": [0, -1, 7, 1 << 24, HUGE],
    "num_hidden_layers": [0, -1, 2, 1 << 20, "1", HUGE],
    "vocab_size": [0, 31, 1 << 24, "32", HUGE],
    "intermediate_size": [0, 95, HUGE],
    "rms_norm_eps": [float("nan"), float("inf"), -1.0, "1e-6", HUGE, [1]],
    "max_position_embeddings": [0, -1, "many", HUGE],
    "attention_bias": ["yes", 1, True],
    "tie_word_embeddings": ["no", 0],
    "hidden_act": ["mish", 3, ["silu"], "../silu", "\ud800"],
    "rope_parameters": ["x", [1], {"rope_type": "yarn", "factor": ""}, {"rope_theta": -1}, {"rope_type": ["linear"]}],
    "architectures": ["LlamaForCausalLM", [3], ["NoSuchModel"], ["../../x"], [["LlamaForCausalLM"]], {}],
    "eos_token_id": ["</s>", -1, [1, "2"], 1.5, {}],
}


CASES = [(field, value) for field, values in CONFIGS.items() for value in values]


@pytest.mark.parametrize(("field", "value"), CASES, ids=lambda v: ascii(v)[:20])
def test_config_values(folder, field, value) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: value}))
    (folder / "generation_config.json").unlink()
    for source in (folder, folder / "model.safetensors"):
        assert len(refused(source)) < 6000


@pytest.mark.parametrize("section", ["", "rope_parameters"])
def test_many_fields_that_nobody_knows_are_named_in_one_line(folder, section) -> None:
    config = json.loads((folder / "config.json").read_text())
    (config[section] if section else config).update({f"a\n{i}" + "b" * 200: "x" * 200 for i in range(1000)})
    (folder / "config.json").write_text(json.dumps(config))
    text = refused(folder)
    assert len(text) < 6000 and "\n" not in text
    assert r"'a\n0bbb" in text and "and 980 more" in text


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": 1, "a": 2}', "\0", "[" * 50_000], ids=lambda t: t[:9])
def test_a_config_that_is_none(folder, text) -> None:
    (folder / "config.json").write_text(text)
    for source in (folder, folder / "model.safetensors"):
        assert f"config.json: is {'empty' if not text else 'not '}" in refused(source)


def test_an_unknown_architecture_lists_those_that_there_are(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaForCausalLm"]}))
    text = refused(folder)
    assert "nearest: LlamaForCausalLM" in text
    assert f"supported: {', '.join(sorted(ARCHITECTURES))} with EncoderModel, ForCausalLM, " in text


def test_no_config(folder) -> None:
    (folder / "config.json").unlink()
    for source in (folder, folder / "model.safetensors"):
        assert "config.json: No such file" in refused(source)


def test_missing_and_extra_tensors_are_all_in_one_message(folder) -> None:
    names = {"lm_head.weight": "head.weight", "model.norm.weight": "model.final_norm.weight"}
    with_header(folder / "model.safetensors", lambda h: {names.get(k, k): e for k, e in h.items()})
    text = refused(folder)
    assert "missing tensors: 'model.norm.weight' (nearest: 'model.final_norm.weight'), 'lm_head.weight'" in text
    assert all(repr(name) in text for name in names.values())


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("modules.json", "{"),
        ("modules.json", '{"a": 1}'),
        ("modules.json", "[1]"),
        ("modules.json", '[{"type": "a.Transformer"}, {"type": "b.Pooling", "path": "../1_Pooling"}]'),
        ("modules.json", '[{"type": "a.Transformer"}, {"type": "b.Pooling", "path": "1_Pooling"}]'),
        ("modules.json", '[{"type": "a.Transformer"}, {"type": "b.Pooling"}]'),
        ("generation_config.json", "[]"),
        ("generation_config.json", '{"eos_token_id": "x"}'),
    ],
)
def test_files_beside_the_config(folder, file, text) -> None:
    (folder / file).write_text(text)
    assert file.split(".")[0] in refused(folder) or "1_Pooling" in refused(folder)


# -------------------------------------------------------------------------------------------------------------- memory

MEASURED = """
import re, sys
from pathlib import Path
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
try:
    load_checkpoint(Path(sys.argv[1]))
except LoadError as e:
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())  # ru_maxrss would count its parent
    print(int(peak[1]) / 1024, str(e)[:200])
"""
MEGABYTE = 1 << 20


def long_list(header: Header) -> bytes:
    return b'{"x":[' + b"[]," * (7 * MEGABYTE) + b"0]}"


def many_entries(header: Header) -> bytes:
    return ("{" + ",".join(f'"{i:x}":{{}}' for i in range(2_000_000)) + "}").encode()


def many_tensors(header: Header) -> Header:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    return header | {f"model.layers.{i}.mlp.up_proj.weight": empty for i in range(9, 100_000)}


def too_long(header: Header) -> bytes:
    return b" " * (99 * MEGABYTE)


@pytest.mark.slow
@pytest.mark.parametrize("change", [long_list, many_entries, many_tensors, too_long])
def test_large_headers_take_little_memory(folder, change) -> None:
    with_header(folder / "model.safetensors", change)
    limited(folder)


@pytest.mark.slow
def test_a_large_config_that_nothing_backs(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    large = {"hidden_size": 1 << 22, "vocab_size": 1 << 24, "intermediate_size": 1 << 24, "num_hidden_layers": 1024}
    (folder / "config.json").write_text(json.dumps(config | large))
    limited(folder)


def limited(folder: Path) -> None:
    command = [sys.executable, "-c", MEASURED, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    megabytes, text = done.stdout.split(" ", 1)
    assert float(megabytes) < 2000, done.stdout
    assert str(folder) in text


def test_what_is_sound_still_loads(sound, sharded) -> None:
    assert load_checkpoint(sound) == load_checkpoint(sharded) == load_checkpoint(sound / "model.safetensors")
