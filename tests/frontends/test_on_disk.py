"""What people have on disk and nothing reads is named as what it is, with what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import burnish
from burnish.frontends.config import LoadError
from burnish.runtime.sources import kind_of, tokenizer_of
from tests import models
from tests.packed_files import as_gguf


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.saved(models.llama(num_hidden_layers=1), tmp_path_factory.mktemp("saved"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


def refused(path: Path) -> str:
    with pytest.raises(LoadError) as e:
        burnish.load(path)
    return str(e.value)


# ------------------------------------------------------------------------------------------------- other forms


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (["consolidated.00.pth"], "PyTorch files of other names than pytorch_model.bin: consolidated.00.pth; give the"),
        (["model.ckpt"], "PyTorch files of other names"),
        (["tf_model.h5"], "TensorFlow's weights, which are not read: tf_model.h5; .*`from_tf=True`"),
        (["flax.msgpack"], "Flax files of other names than flax_model.msgpack: flax.msgpack; give the one"),
        (
            ["onnx/model.onnx", "onnx/model_quantized.onnx"],
            "ONNX files: onnx/model.onnx, onnx/model_quantized.onnx; give one",
        ),
        (["a-q4.gguf", "a-q8.gguf"], "GGUF files: a-q4.gguf, a-q8.gguf; give one of them"),
        (["model.fp16.safetensors"], "of other names than model.safetensors: model.fp16.safetensors; give the one"),
        (
            ["adapter_config.json", "adapter_model.safetensors"],
            r"an adapter \(LoRA\) without its base model.*merge_and_unload",
        ),
        (
            ["model.safetensors.incomplete"],
            "a download that has not ended: model.safetensors.incomplete; fetch the rest",
        ),
        (["w.npz"], "NumPy files of other names than weights.npz: w.npz; give the one"),
        (["w.pdparams"], "Paddle files of other names than model_state.pdparams: w.pdparams; give the one"),
        (["model.tflite"], "a form that is not read"),
        ([f"{i}.gguf" for i in range(9)], "0.gguf, 1.gguf, 2.gguf, 3.gguf, 4.gguf and 4 more"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
@pytest.mark.parametrize("config", [True, False])
def test_a_folder_without_weights_that_are_read(files: Any, what: str, config: bool, folder: Path) -> None:
    """With a config.json it would be a checkpoint; without one it is nothing that is known."""
    (folder / "model.safetensors").unlink()
    if not config:
        (folder / "config.json").unlink()
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    with pytest.raises(LoadError, match=f"{folder}: holds .*{what}"):
        burnish.load(folder)


def test_what_lies_beside_weights_is_left_alone(folder: Path) -> None:
    for name in ("pytorch_model.bin", "tf_model.h5", "model.gguf", "training_args.bin", "x.incomplete"):
        (folder / name).write_bytes(b"x")
    assert kind_of(folder) == "checkpoint"
    assert burnish.load(folder).weights


def test_a_file_of_another_form(tmp_path: Path) -> None:
    for name, what in (("a.txt.gz", "cannot tell"), ("a.h5", "is TensorFlow's"), ("a.tflite", "is a form that")):
        (tmp_path / name).write_bytes(b"x")
        assert f"{tmp_path / name}: {what}" in refused(tmp_path / name)


def test_names_of_tensorflow(folder: Path) -> None:
    save_file({"model/embed_tokens/weight:0": torch.zeros(3)}, folder / "model.safetensors")
    assert "has the names of TensorFlow's weights, which are not read: load it with transformers" in refused(folder)


def test_a_file_of_several_and_a_link_to_nothing(tmp_path: Path) -> None:
    shards = models.saved(models.llama(num_hidden_layers=1), tmp_path / "shards", max_shard_size="40KB")
    assert f"is one of several files of a model: give its folder, {shards}" in refused(next(shards.glob("model-*")))
    one = models.saved(models.llama(num_hidden_layers=1), tmp_path / "one")
    (one / "model.safetensors").unlink()
    (one / "model.safetensors").symlink_to("../../blobs/0abc")  # a cache that lost a file
    assert "model.safetensors: is a link to a file that is not there, ../../blobs/0abc; fetch it again" in refused(one)


def test_a_folder_of_models(folder: Path) -> None:
    assert f"{folder.parent}: holds folders with a config.json: model; give one of them" in refused(folder.parent)


def test_the_only_gguf_file_of_a_folder_is_the_model(tmp_path: Path) -> None:
    file = as_gguf(tmp_path / "model.gguf", models.llama(num_hidden_layers=1), {"weight": "F32"})
    (tmp_path / "config.json").write_text("{}")
    assert kind_of(tmp_path) == kind_of(file) == "gguf"
    assert burnish.load(tmp_path) == burnish.load(file)
    assert tokenizer_of(tmp_path) is None
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    assert kind_of(tmp_path) == "checkpoint"


# ---------------------------------------------------------------------------------------------- files that are others


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "is a pointer of git-lfs, not the file itself",
        ),
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is a web page, not the file: download it again"),
        (b"<html><body>404", "is a web page"),
        (b"PK\x03\x04" + bytes(60), "is a zip archive, as PyTorch writes them: name it"),
        (b"\x80\x02}q\x00" + bytes(60), "is a pickle"),
        (b"GGUF\x03\x00\x00\x00" + bytes(60), "is a GGUF file: name it .gguf"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "generation_config.json"])
def test_a_file_that_is_not_what_its_name_says(raw: bytes, what: str, name: str, folder: Path) -> None:
    (folder / name).write_bytes(raw)
    with pytest.raises(LoadError, match=f"{name}: {what}"):
        tokenizer_of(folder) if name == "tokenizer.json" else burnish.load(folder)


def test_an_index_without_its_files_says_how_many(tmp_path: Path) -> None:
    folder = models.saved(models.llama(num_hidden_layers=1), tmp_path, max_shard_size="40KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    for file in shards[:2]:
        file.unlink()
    gone = ", ".join(p.name for p in shards[:2])
    assert f"2 of its {len(shards)} files are not there: {gone}; fetch the rest" in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_other_letters(name: str, folder: Path) -> None:
    other = name[0].upper() + name[1:]
    (folder / name).rename(folder / other)
    if name == "config.json":
        assert f"config.json: No such file, but there is {other}" in refused(folder / "model.safetensors")
        return
    assert f"{folder}: holds {other}, in other letters than {name}: rename it" in refused(folder)


def test_one_file_goes_before_an_index(saved: Path, tmp_path: Path) -> None:
    """As transformers has it, whether or not the shards are there."""
    folder = models.saved(models.randomised(models.llama(num_hidden_layers=1), 9), tmp_path, max_shard_size="40KB")
    shutil.copy(saved / "model.safetensors", folder)
    for _ in range(2):
        module = burnish.load(folder)
        name = "model.norm.weight"
        assert np.array_equal(module.source.read(name), burnish.load(saved).source.read(name))
        for file in folder.glob("model-*.safetensors"):
            file.unlink()


# ------------------------------------------------------------------------------------------ quantized checkpoints


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        (
            {"quantization_config": {"quant_method": "awq", "bits": 4}},
            "quant_method 'awq' is not .* quantized by AWQ: take",
        ),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantized by bitsandbytes"),
        ({"quantization_config": {"load_in_8bit": True}}, "quantized by bitsandbytes"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "quantized by compressed-tensors"),
        ({"compression_config": {"format": "pack-quantized"}}, "compression_config is .* by compressed-tensors"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantized by fp8"),
        ({"quantization_config": {"quant_method": "hqq"}}, "quantized by HQQ"),
        ({"quantization_config": {"quant_method": "eetq"}}, "quantized by EETQ"),
        ({"quantization_config": {"quant_method": "aqlm"}}, "quantized by AQLM"),
        ({"quantization_config": {"quant_method": "torchao"}}, "quantized by torchao"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "quantized by MXFP4"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "quantization is not supported.* quantized by mlx"),
        ({"quantization_config": {"quant_method": "of tomorrow"}}, "The weights are quantized in another way: take"),
        ({"quantization_config": {}}, "quant_method None is not supported"),
    ],
)
def test_another_quantization_is_named_before_its_tensors_are_looked_at(fields: Any, what: str, folder: Path) -> None:
    models.change_config(folder, **fields)
    save_file({"model.x.weight": torch.zeros(3, dtype=torch.float8_e4m3fn)}, folder / "model.safetensors")
    with pytest.raises(LoadError, match=what):
        burnish.load(folder)


# --------------------------------------------------------------------------------------------------- names on a hub


def test_a_snapshot_in_the_cache_of_a_hub(tmp_path: Path) -> None:
    snapshot = models.saved(models.llama(num_hidden_layers=1), tmp_path / "models--some-org--Model-1.5B/snapshots/0abc")
    assert burnish.load(snapshot).weights
    assert f"holds it in {snapshot}: give that" in refused(snapshot.parents[1])


def test_a_path_at_which_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    assert "nothing of that name in models; a model on the Hugging Face hub would be hf://models/x" in refused(
        Path("models/x")
    )
    for other in ("models/b/c", "nothing", "/no/thing"):
        assert "there is no such file or folder" in refused(Path(other))


# ------------------------------------------------------------------------------------------------------ config files


def test_what_a_decoder_begins_with(tmp_path: Path) -> None:
    """generation_config.json goes before config.json."""
    folder = models.saved(models.t5(), tmp_path)
    models.change_config(folder, decoder_start_token_id=3)
    for own, start in (({}, 3), ({"decoder_start_token_id": 5}, 5), ({"decoder_start_token_id": None}, 3), (None, 3)):
        file = folder / "generation_config.json"
        file.write_text(json.dumps(own)) if own is not None else file.unlink()
        assert burnish.load(folder).facts.decoder_start == start
    (folder / "generation_config.json").write_text('{"decoder_start_token_id": "x"}')
    assert "generation_config.json: decoder_start_token_id must be an integer" in refused(folder)
    (folder / "generation_config.json").unlink()
    models.change_config(folder, decoder_start_token_id=None, bos_token_id=4)  # transformers' second choice
    assert burnish.load(folder).facts.decoder_start == 4
