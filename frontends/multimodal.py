"""The text model inside of one that sees or hears too: its class, its config and its tensors, out of the larger ones.

What is read is what the larger model computes of text alone; all of the rest is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from burnish.frontends.architecture import find_architecture, plain
from burnish.frontends.config import Config, LoadError
from burnish.frontends.stored import Tensors
from burnish.frontends.unsupported import kind_of

__all__ = ["is_multimodal", "text_model"]

#: the larger models, by their classes, and the type of their text model where the file does not say it
TEXTS = {
    "AyaVision": "cohere2",
    "Cohere2Vision": "cohere2",
    "Gemma3": "gemma3_text",
    "GotOcr2": "qwen2",
    "Idefics2": "mistral",
    "Idefics3": "llama",
    "InternVL": "qwen2",
    "LightOnOcr": "qwen3",
    "Llava": "llama",
    "LlavaNext": "llama",
    "LlavaNextVideo": "llama",
    "LlavaOnevision": "qwen2",
    "Mistral3": "mistral",
    "Qwen2Audio": "qwen2",
    "Qwen2VL": "qwen2_vl",
    "Qwen2_5_VL": "qwen2_5_vl",
    "Qwen3VL": "qwen3_vl",
    "SmolVLM": "llama",
    "VipLlava": "llama",
}
#: what the tensors of a text model begin with in the checkpoint of a larger one; the last where none of the others does
_PREFIXES = ("language_model.", "model.language_model.", "text_model.", "model.text_model.", "model.")
#: fields that stand beside those of the text model where these have no section of their own
_OF_IMAGES = (
    *("vision_config", "image_token_id", "video_token_id"),
    *("vision_start_token_id", "vision_end_token_id", "vision_token_id"),
)
#: what a text model does to its own logits, and the larger one, whose head is another, does not
_NO_CHANGE = {"logit_scale": 1.0, "logits_scaling": 1.0, "final_logit_softcapping": None}


def is_multimodal(config: Config) -> bool:
    """Whether a config is of a model with a text model inside."""
    return any(config.has(f"{part}_config") for part in ("text", "vision", "audio"))


def text_model(name: str, config: Config, tensors: Tensors) -> tuple[str, Config, Tensors]:
    """The class of the text model inside of a model of class `name`, its config and its tensors. Raises LoadError."""
    larger = name.removesuffix("ForConditionalGeneration")
    if larger not in TEXTS or larger == name:
        kind, known = kind_of(plain(larger)), ", ".join(TEXTS)
        what = f"it is {kind}" if kind else f"those are of {known}"
        raise LoadError(f"{config.where}: the text part of {name} is not read; {what}")
    text = config.section("text_config") if config.has("text_config") else _without_images(config)
    if text.flag("use_bidirectional_attention", False):
        raise LoadError(f"{text.where}: use_bidirectional_attention is true, but only causal attention is supported")
    kind = text.text("model_type", TEXTS[larger])
    architecture, head = find_architecture(f"{kind.removesuffix('_text')}ForCausalLM", text)
    prefixes = [p for p in _PREFIXES[:-1] if any(n.startswith(p) for n in tensors.types)] or [_PREFIXES[-1]]
    if not any(n.startswith(prefixes[0]) for n in tensors.types):
        raise LoadError(f"{config.where}: no tensor is of a text model: none begins with {', '.join(_PREFIXES)}")
    around = {"eos_token_id": v} if (v := config.get("eos_token_id")) is not None else {}
    values = {**around, **text.values, **_NO_CHANGE, **_tied(config, text, tensors), **_plain_positions(text)}
    inner = Config(values, text.where)
    for field in _NO_CHANGE:
        inner.get(field)  # whether or not the family has it
    return architecture.names[0] + head.names[0], inner, replace(tensors, prefixes=(*prefixes, ""))


def _without_images(config: Config) -> Config:
    return Config({k: v for k, v in config.values.items() if k not in _OF_IMAGES}, config.where)


def _tied(config: Config, text: Config, tensors: Tensors) -> Mapping[str, Any]:
    """Either config may say that the head is the table of tokens; where the larger does not, it is unless stored."""
    said = [c.flag("tie_word_embeddings", False) for c in (config, text)]
    stored = config.has("tie_word_embeddings") or any(n.endswith("lm_head.weight") for n in tensors.types)
    return {"tie_word_embeddings": True} if any(said) or not stored else {}


def _plain_positions(text: Config) -> Mapping[str, Any]:
    """Positions of time, height and width, in sections of each head, are one and the same in text."""
    plain = {}
    for field in ("rope_scaling", "rope_parameters"):
        if isinstance(section := text.get(field), Mapping) and "mrope_section" in section:
            plain[field] = {
                k: "default" if v == "mrope" else v
                for k, v in section.items()
                if k not in ("mrope_section", "mrope_interleaved")
            }
    return plain
