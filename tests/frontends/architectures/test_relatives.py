"""Families whose code is not in transformers, against a relative of theirs that is, under their names of everything."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from burnish.frontends.checkpoint import load_checkpoint
from tests import models
from tests.frontends.architectures.feeding import assert_near, run

LLAMA = {"vocab_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64} | models.SIZES


def check(oracle: Any, folder: Path, name: str, fields: dict[str, Any], tensors: dict[str, np.ndarray] | None) -> None:
    """What the relative says is what is said of its file as one of the family's: its class, its fields, its tensors."""
    models.saved(oracle, folder)
    sizes = LLAMA | {"rms_norm_eps": oracle.config.rms_norm_eps, "rope_theta": 500.0}
    (folder / "config.json").write_text(json.dumps(sizes | {"architectures": [name]} | fields))
    if tensors is not None:
        save_file(tensors, folder / "model.safetensors")
    ids = models.tokens((2, 11))
    assert_near(run(load_checkpoint(folder), "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


def made(name: str, **fields: Any) -> Any:
    return models.made(name, **LLAMA, rope_parameters={"rope_type": "default", "rope_theta": 500.0}, **fields)


def test_minicpm(tmp_path: Path) -> None:
    """Granite, with its factors by depth and width."""
    factors = {"embedding_multiplier": 12.0, "residual_multiplier": 1.4 / 2**0.5, "logits_scaling": 64 / 16}
    oracle = made("GraniteForCausalLM", attention_multiplier=0.25, tie_word_embeddings=True, **factors)
    theirs = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 16, "tie_word_embeddings": True}
    check(oracle, tmp_path, "MiniCPMForCausalLM", theirs, None)


def test_internlm3(tmp_path: Path) -> None:
    oracle = made("LlamaForCausalLM", attention_bias=True, mlp_bias=True, head_dim=24)
    check(oracle, tmp_path, "InternLM3ForCausalLM", {"qkv_bias": True, "bias": True, "head_dim": 24}, None)


def test_internlm2(tmp_path: Path) -> None:
    """Of each group, its queries, its key and its value, one after the other."""
    oracle = made("LlamaForCausalLM")
    stored = load_file(models.saved(oracle, tmp_path) / "model.safetensors")
    called = {"model.embed_tokens": "model.tok_embeddings", "lm_head": "output", "self_attn.o_proj": "attention.wo"}
    called |= {"input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm"}
    called |= {f"mlp.{a}_proj": f"feed_forward.{b}" for a, b in (("gate", "w1"), ("up", "w3"), ("down", "w2"))}
    tensors = {}
    for name, x in stored.items():
        for theirs, ours in called.items():
            name = name.replace(theirs, ours)
        tensors[name] = x
    for i in range(2):
        q, k, v = (tensors.pop(f"model.layers.{i}.self_attn.{n}_proj.weight").reshape(2, -1, 64) for n in "qkv")
        tensors[f"model.layers.{i}.attention.wqkv.weight"] = np.concatenate([q, k, v], axis=1).reshape(-1, 64)
    check(oracle, tmp_path, "InternLM2ForCausalLM", {"bias": False, "attn_implementation": "eager"}, tensors)
