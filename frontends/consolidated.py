"""Meta's and Mistral's own files: a `params.json`, and weights in `consolidated.*`, in parts or whole.

Format: `llama/model.py` of meta-llama/llama-models, `args.py` and `transformer_layers.py` of mistral-inference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.frontends import architectures, containers
from burnish.frontends.architecture import build_module
from burnish.frontends.config import Config, LoadError, read_object
from burnish.frontends.generation_config import with_generation
from burnish.frontends.stored import Conventions, Spelling, Tensors, containers_of, spelled
from burnish.frontends.weight_files import consolidated, read_weights
from burnish.ir.module import Module
from burnish.ir.weights import StoredTensor, StoredWeights

__all__ = ["consolidated_files", "load_consolidated"]

assert architectures and containers  # imported so that they are registered

PARAMS = "params.json"
_FIELDS = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "hidden_dim": "intermediate_size",
    "norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta",
    "vocab_size": "vocab_size",
    "sliding_window": "sliding_window",
    "max_seq_len": "max_position_embeddings",
    "max_position_embeddings": "max_position_embeddings",
    "tied_embeddings": "tie_word_embeddings",
}
_INERT = ("max_batch_size", "model_parallel_size")
_SPELLING: Spelling = {
    "model.embed_tokens": "tok_embeddings",
    "model.layers": "layers",
    "model.norm": "norm",
    "lm_head": "output",
    "self_attn": "attention",
    "q_proj": "wq",
    "k_proj": "wk",
    "v_proj": "wv",
    "o_proj": "wo",
    "mlp": "feed_forward",
    "gate_proj": "w1",
    "up_proj": "w3",
    "down_proj": "w2",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}
#: frequencies, which follow from the parameters
_BUFFERS = ("rope.freqs",)
#: Llama 3's scaling of rotary frequencies but for its factor, which is 8 in 3.1 and 32 in 3.2
_SCALED = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def consolidated_files(folder: Path) -> list[Path]:
    """The files of weights of a folder that has a `params.json`, in their order."""
    if not (folder / PARAMS).exists():
        return []
    return [folder / name for name in consolidated(p.name for p in folder.glob("*"))]


def load_consolidated(folder: Path) -> Module:
    """The module of a folder. Raises LoadError."""
    parts = [_tensors(file) for file in consolidated_files(folder)]
    stored = parts[0]
    if len(parts) > 1:
        if any(p.keys() != parts[0].keys() for p in parts):
            raise LoadError(f"{folder}: the consolidated files have other tensors than each other")
        stored = {f"{n.removesuffix('.weight')}.{i:02}": t for i, part in enumerate(parts) for n, t in part.items()}
    types = {n: t.type for n, t in stored.items()}
    config = Config(_config(folder / PARAMS, parts), str(folder / PARAMS))
    name = str(config.get("architectures"))
    how = Conventions(interleaved_rope=True)
    source = StoredWeights(stored)
    tensors = Tensors(types, source, containers_of(config, types), how, lambda n: [spelled(n, _SPELLING)[0]])
    module = build_module(name, config, tensors)
    module.facts = with_generation(module.facts, folder, config)
    return module


def _tensors(file: Path) -> dict[str, StoredTensor]:
    return {n: t for n, t in read_weights(file).items() if n not in _BUFFERS}


def _config(file: Path, parts: Sequence[Mapping[str, StoredTensor]]) -> dict[str, Any]:
    """The fields of a `config.json` that a `params.json` says. Raises LoadError for one that it does not."""
    params = Config(read_object(file), str(file))
    config: dict[str, Any] = dict.fromkeys(_FIELDS.values())  # a family's usual sizes are none of the file's
    config |= {"num_key_value_heads": params.get("n_heads"), "rms_norm_eps": 1e-5}
    config |= {field: params.get(key) for key, field in _FIELDS.items() if params.has(key)}
    for key in _INERT:
        params.get(key)
    table = parts[0].get("tok_embeddings.weight")
    if params.get("vocab_size") == -1 and table is not None and table.type.rank == 2:  # as many as the table has
        rows, width = table.type.sizes
        config["vocab_size"] = rows * len(parts) if width == params.integer("dim") else rows
    if not params.has("hidden_dim"):
        config["intermediate_size"] = _width(params)
    if not params.has("rope_theta"):
        if not params.has("sliding_window") and not params.has("multiple_of"):
            raise LoadError(f"{file}: does not say rope_theta, for which 10000 and 1000000 are in use: add it")
        config["rope_theta"] = 10000.0
    if params.flag("use_scaled_rope", False):
        if not params.has("rope_scaling_factor"):
            what = "use_scaled_rope does not say by how much: add rope_scaling_factor, 8 of Llama 3.1, 32 of 3.2"
            raise LoadError(f"{file}: {what}")
        factor = params.number("rope_scaling_factor", least=1.0)
        config["rope_scaling"] = {"rope_type": "llama3", "factor": factor, **_SCALED}
    kind = "Mistral" if params.has("sliding_window") else "Llama"
    if params.has("moe"):
        kind, moe = "Mixtral", params.section("moe")
        config["num_local_experts"] = moe.integer("num_experts", most=4096)
        config["num_experts_per_tok"] = moe.integer("num_experts_per_tok")
    if unread := params.unread():
        raise LoadError(f"{file}: {', '.join(unread)} is not supported")
    return config | {"architectures": f"{kind}ForCausalLM"}


def _width(params: Config) -> int:
    """The inner width of the feed-forward."""
    width = int(2 * 4 * params.integer("dim") / 3)
    if params.has("ffn_dim_multiplier"):
        width = int(params.number("ffn_dim_multiplier", least=1e-6) * width)
    unit = params.integer("multiple_of", 256)
    return unit * -(-width // unit)
