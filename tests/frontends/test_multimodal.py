"""The text model of one that sees, under all of the names that its tensors have, against the larger model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from burnish.frontends.architecture import ARCHITECTURES, parameters
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import Config, LoadError
from burnish.runtime.inspection import describe
from tests import models
from tests.frontends.architectures.feeding import assert_near, run
from tests.parity.types import TYPES

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


def qwen2_vl(folder: Path, **variant: Any) -> Any:
    """Qwen2VLForConditionalGeneration, saved; the oracle."""
    type = next(t for t in TYPES if t.cls == "Qwen2VLForConditionalGeneration")
    oracle = type.made({**type.variants[0], **variant}).model
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


@pytest.mark.parametrize("tied", [True, False])
def test_a_config_in_one_level(tied: bool, tmp_path: Path) -> None:
    """As Qwen wrote those of 2 and 2.5: the fields of the text model stand beside those of the images."""
    oracle = qwen2_vl(tmp_path, tie_word_embeddings=tied)
    config = json.loads((tmp_path / "config.json").read_text())
    text = {k: v for k, v in config.pop("text_config").items() if k != "rope_parameters"}
    text |= {"model_type": "qwen2_vl", "rope_theta": 1e6, "vision_token_id": 94}
    text |= {"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}
    (tmp_path / "config.json").write_text(json.dumps({**text, **config}))
    ids = models.tokens((2, 9), 80)
    for tensors in (load_file(tmp_path / "model.safetensors"), as_in_memory(oracle)):
        save_file({k: v for k, v in tensors.items() if not (tied and "lm_head" in k)}, tmp_path / "model.safetensors")
        module = load_checkpoint(tmp_path)
        assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))
        assert module.facts.left_out == ("visual",)


@pytest.mark.parametrize("of_text", [True, False])
def test_either_config_may_say_that_the_head_is_the_table_of_tokens(of_text: bool, tmp_path: Path) -> None:
    oracle = llava(tmp_path, tie_word_embeddings=True)
    assert not any("lm_head" in n for n in load_file(tmp_path / "model.safetensors"))
    text = json.loads((tmp_path / "config.json").read_text())["text_config"]
    models.change_config(tmp_path, tie_word_embeddings=not of_text, text_config=text | {"tie_word_embeddings": of_text})
    ids = models.tokens((1, 9))
    logits = run(load_checkpoint(tmp_path), "forward", ids=ids)["logits"]
    assert_near(logits, models.logits_of(oracle, input_ids=ids))


@pytest.mark.parametrize("tied", [True, False])
def test_where_neither_says_so_the_head_is_the_table_unless_it_is_stored(tied: bool, tmp_path: Path) -> None:
    oracle = llava(tmp_path, tie_word_embeddings=tied)
    text = json.loads((tmp_path / "config.json").read_text())["text_config"]
    models.change_config(tmp_path, tie_word_embeddings=None, text_config=text | {"tie_word_embeddings": None})
    ids = models.tokens((1, 9))
    logits = run(load_checkpoint(tmp_path), "forward", ids=ids)["logits"]
    assert_near(logits, models.logits_of(oracle, input_ids=ids))


@pytest.mark.parametrize("of", ["Llama", "Mistral", "Mixtral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Phi3", "Cohere2"])
def test_what_a_text_config_does_not_say_is_as_the_family_has_it(of: str, tmp_path: Path) -> None:
    """Version 4 left those fields out; the missing tensors tell the sizes."""
    text = {"model_type": getattr(transformers, f"{of}Config").model_type, "num_hidden_layers": 1}
    config = {"architectures": ["LlavaForConditionalGeneration"], "text_config": text}
    (tmp_path / "config.json").write_text(json.dumps(config))
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
        ({"model_type": "clip_text_model"}, "text_config: architecture 'clip_text_modelForCausalLM' is not supported"),
        ({"model_type": "t5"}, "T5 goes with ForConditionalGeneration: a head of ForCausalLM does not"),
        ({"model_type": "bert"}, "Bert goes with Model: a head of ForCausalLM does not go on it"),
        ({"model_type": 3}, "text_config: model_type must be a string, not 3"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "use_bidirectional_attention is"),
        ([], r"text_config must be an object, not \[\]"),
        ({"model_type": "llama", "rope_scaling": {"no_section": [2, 3]}}, "to make of rope_scaling.no_section="),
        ({"model_type": "llama", "layers_seen": 3}, "LlamaForCausalLM does not know what to make of layers_seen=3"),
    ],
)
def test_another_text_model_is_refused_by_name(text: Any, message: str, tmp_path: Path) -> None:
    llava(tmp_path)
    if isinstance(text, dict) and text.get("model_type") == "llama":
        text = json.loads((tmp_path / "config.json").read_text())["text_config"] | text
        text = {k: v for k, v in text.items() if k != "rope_parameters"}
    models.change_config(tmp_path, text_config=text)
    with pytest.raises(LoadError, match=message):
        load_checkpoint(tmp_path)


def test_another_model_around_it_is_refused_by_name(tmp_path: Path) -> None:
    """It may compute something else of text than its text model alone: PaliGemma's sees its prompt whole."""
    llava(tmp_path)
    for name in ("PaliGemmaForConditionalGeneration", "CLIPModel", "LlavaForSequenceClassification"):
        models.change_config(tmp_path, architectures=[name])
        with pytest.raises(LoadError, match=f"the text part of {name} is not read; those are of AyaVision, "):
            load_checkpoint(tmp_path)


def test_of_a_kind_that_is_known(tmp_path: Path) -> None:
    llava(tmp_path)
    models.change_config(tmp_path, architectures=["Gemma3nForConditionalGeneration"])
    with pytest.raises(LoadError, match="the text part of Gemma3nForConditionalGeneration is not read; it is Gemma 3n"):
        load_checkpoint(tmp_path)
    for of, what in (("qwen3_5_text", "a hybrid of attention and recurrent layers"), ("gemma4_text", "Gemma 4")):
        models.change_config(tmp_path, architectures=["LlavaForConditionalGeneration"], text_config={"model_type": of})
        with pytest.raises(LoadError, match=f"architecture '.*' is not supported: it is {what}"):
            load_checkpoint(tmp_path)


def test_tensors_without_a_text_model_are_refused(tmp_path: Path) -> None:
    oracle = llava(tmp_path)
    only = {k: v for k, v in as_on_disk(oracle).items() if k.startswith("vision_tower")}
    save_file(only, tmp_path / "model.safetensors")
    with pytest.raises(LoadError, match=r"no tensor is of a text model: none begins with language_model\., "):
        load_checkpoint(tmp_path)
