"""A folder becomes a module: single files, shards, links as in a cache of Hugging Face, facts for those who run it."""

import json
import os
from pathlib import Path

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
    with pytest.raises(LoadError, match=r"holds neither model\.safetensors nor model\.safetensors\.index\.json"):
        load_checkpoint(tmp_path)
