"""A folder becomes a module: single files, shards, links as in a cache of Hugging Face, facts for those who run it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from burnish.frontends.architecture import ARCHITECTURES, parameters
from burnish.frontends.checkpoint import load_checkpoint, module_of
from burnish.frontends.config import Config, LoadError, read_object
from burnish.ir.parser import parse
from burnish.ir.verify import verify
from burnish.runtime.inspection import describe
from tests import models
from tests.frontends.architectures.feeding import assert_near, run


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


# ------------------------------------------------------------------------------- the text model of a larger one

TEXT = {"vocab_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64} | models.SIZES
SEEING = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SEEING |= {"image_size": 8, "patch_size": 4}


def llava(folder: Path, of: str = "Llama", **top: Any) -> Any:
    """LlavaForConditionalGeneration with a text model of that family, saved; the oracle."""
    text = getattr(transformers, f"{of}Config")(**TEXT)
    vision = transformers.CLIPVisionConfig(**SEEING)
    oracle = models.made("LlavaForConditionalGeneration", text_config=text, vision_config=vision, **top)
    models.saved(oracle, folder)
    return oracle


def as_in_memory(oracle: Any) -> dict[str, torch.Tensor]:
    """The names that transformers 5 has: `model.language_model.layers`, `lm_head`."""
    return {k: v.contiguous() for k, v in oracle.state_dict().items()}


def as_on_disk(oracle: Any) -> dict[str, torch.Tensor]:
    """The names of version 4, which are written yet: `language_model.model.layers`, `language_model.lm_head`."""
    old = {"model.language_model.": "language_model.model.", "lm_head.": "language_model.lm_head.", "model.": ""}
    tensors = as_in_memory(oracle)
    new = {k: next(p for p in old if k.startswith(p)) for k in tensors}
    return {old[p] + k.removeprefix(p): tensors[k] for k, p in new.items()}


@pytest.mark.parametrize("names", [as_on_disk, as_in_memory])
@pytest.mark.parametrize("of", ["Llama", "Qwen2"])
def test_the_text_model_of_one_that_sees(of: str, names: Any, tmp_path: Path) -> None:
    oracle = llava(tmp_path, of)
    assert set(load_file(tmp_path / "model.safetensors")) == set(as_on_disk(oracle))
    save_file(names(oracle), tmp_path / "model.safetensors")
    module, ids = load_checkpoint(tmp_path), models.tokens((2, 9))
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))
    assert module.facts.architecture == f"{of}ForCausalLM" and module.facts.makes_text
    assert module.facts.left_out == ("multi_modal_projector", "vision_tower")
    assert describe(module)["facts"]["left_out"] == module.facts.left_out  # `burnish inspect` says it


@pytest.mark.parametrize("of_text", [True, False])
def test_either_config_may_say_that_the_head_is_the_table_of_tokens(of_text: bool, tmp_path: Path) -> None:
    oracle = llava(tmp_path, tie_word_embeddings=True)
    assert not any("lm_head" in n for n in load_file(tmp_path / "model.safetensors"))
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["tie_word_embeddings"] = of_text
    rewritten(tmp_path, tie_word_embeddings=not of_text, text_config=config["text_config"])
    ids = models.tokens((1, 9))
    logits = run(load_checkpoint(tmp_path), "forward", ids=ids)["logits"]
    assert_near(logits, models.logits_of(oracle, input_ids=ids))


@pytest.mark.parametrize("of", ["Llama", "Mistral", "Mixtral", "Qwen2", "Qwen3", "Gemma2", "Phi3"])
def test_what_a_text_config_does_not_say_is_as_the_family_has_it(of: str, folder: Path, tmp_path: Path) -> None:
    """Version 4 left those fields out; the missing tensors tell the sizes."""
    text = {"model_type": getattr(transformers, f"{of}Config").model_type, "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Seeing"], "text_config": text}))
    save_file({"language_model.model.norm.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    asked = parameters(ARCHITECTURES[of], Config(text))
    with torch.device("meta"):
        cls = getattr(transformers, f"{of}ForCausalLM")
        oracle = cls(cls.config_class(num_hidden_layers=1))
    theirs = {k: tuple(v.shape) for k, v in oracle.state_dict().items()}
    names = [n for n in asked if n in theirs]  # experts lie in stacks there
    assert "model.embed_tokens.weight" in names and "model.layers.0.self_attn.o_proj.weight" in names
    assert {n: asked[n].shape for n in names} == {n: theirs[n] for n in names}
    with pytest.raises(LoadError, match=r"language_model\.model\.embed_tokens\.weight"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"model_type": "gemma3_text"}, "text_config: architecture 'gemma3ForCausalLM' is not supported"),
        ({"model_type": "t5"}, "T5 goes with ForConditionalGeneration: a head of ForCausalLM does not"),
        ({"model_type": "bert"}, "Bert goes with Model: a head of ForCausalLM does not go on it"),
        ({"model_type": 3}, "text_config: needs a model_type, for the text model of LlavaForConditionalGeneration"),
        ({}, "text_config: needs a model_type, for the text model of LlavaForConditionalGeneration"),
        ([], r"text_config must be an object, not \[\]"),
        ({"model_type": "llama", "rope_scaling": {"mrope_section": [2, 3]}}, "to make of rope_scaling.mrope_section="),
        ({"model_type": "llama", "layers_seen": 3}, "LlamaForCausalLM does not know what to make of layers_seen=3"),
    ],
)
def test_another_text_model_is_refused_by_name(text: Any, message: str, tmp_path: Path) -> None:
    llava(tmp_path)
    if isinstance(text, dict) and text.get("model_type") == "llama":
        text = json.loads((tmp_path / "config.json").read_text())["text_config"] | text
        text = {k: v for k, v in text.items() if k != "rope_parameters"}
    with pytest.raises(LoadError, match=message):
        load_checkpoint(rewritten(tmp_path, text_config=text))


def test_a_text_config_without_a_text_model_is_refused(folder: Path, tmp_path: Path) -> None:
    models.saved(models.llama(), tmp_path)
    with pytest.raises(LoadError, match=r"no tensor begins with language_model\., "):
        load_checkpoint(rewritten(tmp_path, text_config={"model_type": "llama"}))


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
        ({"text_config": 1}, "text_config must be an object, not 1"),
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
