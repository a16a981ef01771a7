"""GGUF's metadata keys and tensor names, in the words of Hugging Face: a `config.json`, and Llama's module paths.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. What they mean when they are missing: llama.cpp.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from burnish.frontends.config import Config, LoadError, shown
from burnish.frontends.gguf_file import GgufFile

__all__ = ["architecture_of", "config_of", "gguf_names", "plain"]

#: keys of the architecture whose value is that of a field of config.json
_FIELDS = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "use_parallel_residual": "use_parallel_residual",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
#: those that are read one by one
_READ = ("attention.value_length", "rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor")
#: those that say nothing of what is computed, for the rope scalings that are supported
_INERT = ("tensor_data_layout", "rope.scaling.finetuned", "rope.scaling.original_context_length")
#: those that are supported with one value: the one that changes nothing
_NEUTRAL: dict[str, Any] = {
    "attention.causal": True,
    "attention.clamp_kqv": 0.0,
    "attention.max_alibi_bias": 0.0,
    "expert_count": 0,
    "expert_used_count": 0,
    "pooling_type": 0,
    "rope.scaling.attn_factor": 1.0,
}
_ENDS = tuple(f"tokenizer.ggml.{end}_token_id" for end in ("eos", "eot", "eom"))

_NAMES = {
    "model.embed_tokens": ("token_embd",),
    "model.norm": ("output_norm",),
    "lm_head": ("output",),
}
_BLOCK_NAMES = {
    "input_layernorm": ("attn_norm",),
    "self_attn.q_proj": ("attn_q",),
    "self_attn.k_proj": ("attn_k",),
    "self_attn.v_proj": ("attn_v",),
    "self_attn.qkv_proj": ("attn_qkv",),
    "self_attn.o_proj": ("attn_output",),
    "self_attn.q_norm": ("attn_q_norm",),
    "self_attn.k_norm": ("attn_k_norm",),
    # Gemma 2 and OLMo 2 norm what attention gives; Llama, what the feed-forward takes, under the same name.
    "post_attention_layernorm": ("post_attention_norm", "ffn_norm"),
    "pre_feedforward_layernorm": ("ffn_norm",),
    "post_feedforward_layernorm": ("post_ffw_norm",),
    "mlp.gate_proj": ("ffn_gate",),
    "mlp.up_proj": ("ffn_up",),
    "mlp.gate_up_proj": ("ffn_up",),  # the gate's rows first
    "mlp.down_proj": ("ffn_down",),
}


def gguf_names(canonical: str) -> tuple[str, ...]:
    """What GGUF may call a parameter, the likelier name first; nothing where it has no name for it.

    `canonical` is the path of the parameter in a decoder like transformers' Llama.
    """
    path, _, kind = canonical.rpartition(".")
    if block := re.fullmatch(r"model\.layers\.(\d+)\.(.+)", path):
        return tuple(f"blk.{block[1]}.{n}.{kind}" for n in _BLOCK_NAMES.get(block[2], ()))
    return tuple(f"{n}.{kind}" for n in _NAMES.get(path, ()))


def architecture_of(file: GgufFile) -> str:
    """GGUF's name of the architecture, `llama` and the like. Raises LoadError for a file that holds no model."""
    kind, name = (plain(file.metadata.get(f"general.{key}")) for key in ("type", "architecture"))
    if kind not in (None, "model"):
        raise LoadError(f"{file.path}: holds no model, but general.type {shown(kind)}")
    if not isinstance(name, str) or not name:
        raise LoadError(f"{file.path}: general.architecture must name the architecture, not {shown(name)}")
    return name


def config_of(file: GgufFile) -> dict[str, Any]:
    """The fields of a `config.json` that the metadata say, for an architecture of any name.

    What follows from the architecture (the activation, which of its projections have biases) is not in a file.
    Raises LoadError, with all their names, for keys of the architecture that mean something not supported here.
    """
    prefix = f"{architecture_of(file)}."
    own = {k.removeprefix(prefix): _of_all_layers(v) for k, v in file.metadata.items() if k.startswith(prefix)}
    known = (*_FIELDS, *_READ, *_INERT)
    if refused := [k for k, v in own.items() if k not in known and (k not in _NEUTRAL or v != _NEUTRAL[k])]:
        texts = (f"{prefix}{k} = {shown(own[k])}" for k in refused[:20])
        raise LoadError(f"{file.path}: metadata that are not supported: {', '.join(texts)}")
    keys = Config(own, f"{file.path}: {prefix}*")
    for key in filter(own.__contains__, _FIELDS):
        if not isinstance(own[key], int | float):
            raise LoadError(f"{keys.where}: {key} must be one number for all layers, not {shown(own[key])}")
    config = {field: own[key] for key, field in _FIELDS.items() if key in own}
    table = file.tensors.get("token_embd.weight")
    if table is not None and table.type.rank == 2:
        config.setdefault("vocab_size", table.type.shape[0])
    config["tie_word_embeddings"] = "output.weight" not in file.tensors
    for field, tensor in (("attention_bias", "attn_output"), ("mlp_bias", "ffn_down")):
        if f"blk.0.{tensor}.bias" in file.tensors:
            config[field] = True
    _check_head_dim(keys)
    if any(k.startswith("rope.") for k in own):
        config["rope_parameters"] = _rope(keys)
    ends = Config({k: plain(file.metadata.get(k)) for k in _ENDS}, str(file.path))
    if ids := list(dict.fromkeys(ends.integer(k, least=0) for k in _ENDS if ends.has(k))):
        config["eos_token_id"] = ids
    return config


def _head_dim(keys: Config) -> int:
    if keys.has("attention.key_length"):
        return keys.integer("attention.key_length")
    return keys.quotient("embedding_length", by="attention.head_count")


def _check_head_dim(keys: Config) -> None:
    """One config field stands for both."""
    if keys.has("attention.value_length") and keys.integer("attention.value_length") != _head_dim(keys):
        k, v = _head_dim(keys), keys.integer("attention.value_length")
        raise LoadError(f"{keys.where}: keys of {k} and values of {v} channels are not supported")


def _rope(keys: Config) -> dict[str, Any]:
    """The section `rope_parameters`; a missing type of scaling means linear, if there is a factor."""
    given = "linear" if keys.has("rope.scaling.factor") else "none"
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": keys.number("rope.freq_base", 10000.0, least=1.0)}
    if keys.choice("rope.scaling.type", ["none", "linear"], given) == "linear":
        rope |= {"rope_type": "linear", "factor": keys.number("rope.scaling.factor", least=1e-6)}
    if keys.has("rope.dimension_count"):
        head_dim = _head_dim(keys)
        rotated = keys.integer("rope.dimension_count", most=head_dim)
        if rotated < head_dim:
            factor = rotated / head_dim
            exact = int(head_dim * factor) == rotated  # how the factor is read; 15 / 22 * 22 is less than 15
            rope["partial_rotary_factor"] = factor if exact else math.nextafter(factor, 1.0)
    return rope


def plain(value: Any) -> Any:
    """A value as JSON would have it: an f32 as the shortest decimal that rounds to it, an array as a list."""
    if isinstance(value, float):
        with np.errstate(over="ignore"):
            short = np.float32(value)
        return float(str(short)) if float(short) == value else value
    return value.tolist() if isinstance(value, np.ndarray) else value


def _of_all_layers(value: Any) -> Any:
    """A list of numbers that agree, as one."""
    value = plain(value)
    return plain(value[0]) if isinstance(value, list) and value and value == value[:1] * len(value) else value
