"""Nomic BERT, GTE and Jina embeddings 3 as files say them that came with code of their own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from tests import models
from tests.frontends.architectures.feeding import assert_near, run

SIZES = {"vocab_size": 96, "max_position_embeddings": 64} | models.SIZES
IDS = models.tokens((2, 19))
#: nomic-embed-text, as it was published
NOMIC: dict[str, Any] = {
    "activation_function": "swiglu", "architectures": ["NomicBertModel"], "attn_pdrop": 0.0, "bos_token_id": None,
    "causal": False, "dense_seq_output": True, "embd_pdrop": 0.0, "fused_bias_fc": True, "fused_dropout_add_ln": True,
    "initializer_range": 0.02, "layer_norm_epsilon": 1e-3, "max_trained_positions": 2048, "mlp_fc1_bias": False,
    "mlp_fc2_bias": False, "model_type": "nomic_bert", "n_embd": 64, "n_head": 4, "n_inner": 96, "n_layer": 2,
    "n_positions": 64, "pad_vocab_size_multiple": 64, "parallel_block": False, "parallel_block_tied_norm": False,
    "prenorm": False, "qkv_proj_bias": False, "reorder_and_upcast_attn": False, "resid_pdrop": 0.0,
    "rotary_emb_base": 300, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None, "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True,
    "summary_activation": None, "summary_first_dropout": 0.0, "summary_proj_to_labels": True,
    "summary_type": "cls_index", "summary_use_proj": True, "torch_dtype": "float32", "type_vocab_size": 2,
    "use_cache": True, "use_flash_attn": True, "use_rms_norm": False, "use_xentropy": True, "vocab_size": 96,
}  # fmt: skip
#: gte-multilingual, as it was published
NEW: dict[str, Any] = SIZES | {
    "architectures": ["NewModel"], "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
    "layer_norm_type": "layer_norm", "logn_attention_clip1": False, "logn_attention_scale": False, "model_type": "new",
    "pack_qkv": True, "pad_token_id": 1, "position_embedding_type": "rope",
    "rope_scaling": {"factor": 8.0, "type": "ntk"}, "rope_theta": 20000, "torch_dtype": "float32",
    "type_vocab_size": 1, "unpad_inputs": False, "use_memory_efficient_attention": False,
}  # fmt: skip


def with_config(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def renamed(folder: Path, **names: str) -> None:
    """The checkpoint with other names for what its tensors begin with."""
    tensors = load_file(folder / "model.safetensors")
    for old, new in names.items():
        tensors = {(new + n[len(old) :] if n.startswith(old) else n): x for n, x in tensors.items()}
    save_file(tensors, folder / "model.safetensors")


def hidden_of(oracle: Any) -> np.ndarray:
    with torch.no_grad():
        return oracle(input_ids=torch.tensor(IDS, dtype=torch.long)).last_hidden_state.numpy()


def test_nomic_bert_in_the_terms_of_gpt2(tmp_path) -> None:
    rope = {"rope_type": "default", "rope_theta": 300.0}
    oracle = models.made("NomicBertModel", **SIZES, rope_parameters=rope, layer_norm_eps=1e-3)
    module = load_checkpoint(with_config(models.saved(oracle, tmp_path), NOMIC))
    assert_near(run(module, "forward", ids=IDS)["hidden"], hidden_of(oracle))
    assert module.facts.context == 64


@pytest.mark.parametrize(
    ("field", "value"),
    [("prenorm", True), ("qkv_proj_bias", True), ("activation_function", "gelu"), ("rotary_scaling_factor", 2.0)],
)
def test_another_nomic_bert_is_refused(field, value, tmp_path) -> None:
    folder = models.saved(models.made("NomicBertModel", **SIZES), tmp_path)
    with pytest.raises(LoadError, match=field):
        load_checkpoint(with_config(folder, NOMIC | {field: value}))


@pytest.mark.parametrize("head", ["Model", "ForSequenceClassification"])
def test_gte_under_the_names_of_its_own_code(head, tmp_path) -> None:
    """Frequencies of type ntk by their formula: 1 / (8 * base) ** (2 i / d) / 8 ** (2 / d)."""
    oracle = models.made(f"Gte{head}", **SIZES)
    folder = models.saved(oracle, tmp_path)
    base = oracle if head == "Model" else oracle.gte
    i, d = np.arange(8, dtype="f8"), 16
    base.rotary_emb.inv_freq = torch.tensor(1 / (8 * 20000.0) ** (2 * i / d) / 8 ** (2 / d)).float()
    renamed(folder, **{"gte.": "new."})
    module = load_checkpoint(with_config(folder, NEW | {"architectures": [f"New{head}"]}))
    if head == "Model":
        assert_near(run(module, "forward", ids=IDS)["hidden"], hidden_of(oracle))
    else:
        assert_near(run(module, "forward", ids=IDS)["logits"], models.logits_of(oracle, input_ids=IDS))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"pack_qkv": False}, "pack_qkv"),
        ({"logn_attention_scale": True}, "logn_attention_scale"),
        ({"layer_norm_type": "rms_norm"}, "layer_norm_type"),
        ({"position_embedding_type": "absolute"}, "position_embedding_type"),
        ({"rope_scaling": {"factor": 8.0, "type": "ntk", "mixed_b": 0.75}}, "rope_scaling.mixed_b"),
    ],
)
def test_another_gte_is_refused(change, named, tmp_path) -> None:
    folder = models.saved(models.made("GteModel", **SIZES), tmp_path)
    with pytest.raises(LoadError, match=named):
        load_checkpoint(with_config(folder, NEW | change))


def test_jina_embeddings_with_adapters_are_refused(tmp_path) -> None:
    """As first published: XLM-RoBERTa by name, with rotary positions and a LoRA for each task."""
    config = {"architectures": ["XLMRobertaModel"], "position_embedding_type": "rotary", "rotary_emb_base": 20000.0}
    config |= {"lora_adaptations": ["retrieval.query"], "lora_rank": 4, "model_type": "xlm-roberta"}
    folder = models.saved(models.made("JinaEmbeddingsV3Model", **SIZES), tmp_path)
    with pytest.raises(LoadError, match="position_embedding_type 'rotary' is not supported"):
        load_checkpoint(with_config(folder, SIZES | config))


@pytest.mark.parametrize("name", ["NomicBertForMaskedLM", "GteForMaskedLM", "JinaEmbeddingsV3ForMaskedLM"])
def test_tensors_as_transformers_has_them_in_memory(name, tmp_path) -> None:
    oracle = models.made(name, **SIZES)
    folder = models.saved(oracle, tmp_path)
    save_file({n: p.detach().contiguous() for n, p in oracle.named_parameters()}, folder / "model.safetensors")
    module = load_checkpoint(folder)
    assert_near(run(module, "forward", ids=IDS)["logits"], models.logits_of(oracle, input_ids=IDS))


