"""A folder becomes a module: single files, shards, links as in a cache of Hugging Face, facts for those who run it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from burnish.frontends.checkpoint import load_checkpoint, module_of
from burnish.frontends.config import Config, LoadError, read_object
from burnish.ir.parser import parse
from burnish.ir.verify import verify
from tests import models


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return models.saved(models.llama(), tmp_path_factory.mktemp("llama"))


def rewritten(folder: Path, **changes: object) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def test_a_folder_and_its_bare_file_are_the_same_module(folder) -> None:
    module = load_checkpoint(folder)
    verify(module)
    assert load_checkpoint(folder / "model.safetensors") == module
    assert parse(str(module), module.constants()) == module
    assert module.facts.architecture == "LlamaForCausalLM"
    assert module.facts.context == 64


def test_only_headers_are_read(folder) -> None:
    assert load_checkpoint(folder).source.bytes_read == 0


def test_links_are_followed(folder, tmp_path) -> None:
    """A cache of Hugging Face: `snapshots/…/model.safetensors -> ../../blobs/…`."""
    snapshot, blobs = tmp_path / "snapshots/abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in folder.iterdir():
        (blobs / file.name).write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    assert load_checkpoint(snapshot) == load_checkpoint(folder)
    link = tmp_path / "link"
    link.symlink_to(snapshot, target_is_directory=True)
    assert load_checkpoint(link) == load_checkpoint(folder)


def test_shards_are_one_table(folder, tmp_path) -> None:
    sharded = models.saved(models.llama(), tmp_path, max_shard_size="60KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    one, many = load_checkpoint(folder), load_checkpoint(sharded)
    assert one == many
    for name in one.weights:
        assert one.source.read(name).tobytes() == many.source.read(name).tobytes()


@pytest.mark.parametrize(
    ("config", "generation", "eos"),
    [(2, None, (2,)), ([2, 5], None, (2, 5)), (2, {"eos_token_id": [7, 8]}, (7, 8)), (2, {}, (2,)), (None, None, ())],
)
def test_end_tokens(config, generation, eos, tmp_path) -> None:
    folder = rewritten(models.saved(models.llama(), tmp_path), eos_token_id=config)
    os.remove(folder / "generation_config.json")
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    assert load_checkpoint(folder).facts.eos == eos


def test_a_config_and_tensors_are_a_model_however_they_are_stored(folder) -> None:
    module, config = load_checkpoint(folder), read_object(folder / "config.json")
    made = module_of(Config(config), {name: entry.type for name, entry in module.weights.items()}, module.source)
    assert made == module and made.facts.eos == (2,)
    with pytest.raises(LoadError, match="`architectures` must name the model's class, not 'Llama'"):
        module_of(Config(config | {"architectures": "Llama"}), {}, module.source)


def test_a_folder_without_weights(folder, tmp_path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(LoadError, match=r"holds none of model\.safetensors, .*, pytorch_model\.bin"):
        load_checkpoint(tmp_path)


# ------------------------------------------------------------------------------------------------ of another type


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"eos_token_id": "2"}, "config.json: eos_token_id must be an integer from 0 to .*, not '2'"),
        ({"eos_token_id": [2, None]}, "eos_token_id must be an integer|eos_token_id is missing"),
        ({"eos_token_id": {"a": 1}}, "eos_token_id must be an integer"),
        ({"eos_token_id": True}, "eos_token_id must be an integer"),
        ({"max_position_embeddings": -1}, "max_position_embeddings must be an integer from 1 to .*, not -1"),
        ({"max_position_embeddings": 64.0}, "max_position_embeddings must be an integer"),
        ({"max_position_embeddings": 10**30}, "max_position_embeddings must be an integer"),
        ({"hidden_size": [64]}, r"hidden_size must be an integer from 1 to .*, not \[64\]"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps must be a number"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a number"),
        ({"hidden_act": 3}, "hidden_act 3 is not supported"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false"),
        ({"rope_scaling": "linear"}, "rope_scaling must be an object, not 'linear'"),
        ({"rope_parameters": [1]}, r"rope_parameters must be an object, not \[1\]"),
        ({"architectures": {"a": 1}}, "`architectures` must name the model's class"),
        ({"quantization_config": [1]}, "quantization_config must be an object"),
    ],
)
def test_a_field_of_another_type_is_named(fields: dict[str, Any], message: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    with pytest.raises(LoadError, match=message):
        load_checkpoint(rewritten(tmp_path, **fields))


@pytest.mark.parametrize("labels", [["a", "b"], {"0": 1}, {"0": "a", "2": "b"}, "a", {"x": "a"}, {}])
def test_labels_of_another_type_are_named(labels: Any, tmp_path: Path) -> None:
    config = {"vocab_size": 96, "max_position_embeddings": 64} | models.SIZES
    folder = models.saved(models.made("BertForSequenceClassification", **config), tmp_path)
    with pytest.raises(LoadError, match=r"config\.json: id2label must be an object from 0, 1"):
        load_checkpoint(rewritten(folder, id2label=labels))
