"""Of tensors that are tied, files hold one or another: whichever there is stands for all, as in transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import burnish
from burnish.frontends.config import LoadError
from tests import models
from tests.frontends.architectures.feeding import assert_near, run

T5 = {
    "vocab_size": 96,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 96,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
BART = {"vocab_size": 96, "d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4}
BART |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "max_position_embeddings": 64}
LLAMA = {"vocab_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": True}
GPT2 = {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
BERT = {"vocab_size": 96, "max_position_embeddings": 64} | models.SIZES
MAMBA = {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2, "state_size": 8}

CASES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "T5": (
        "T5ForConditionalGeneration",
        T5 | {"tie_word_embeddings": True},
        ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"),
    ),
    "T5 with a head of its own": (
        "T5ForConditionalGeneration",
        T5 | {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
        ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
    ),
    "Bart": (
        "BartForConditionalGeneration",
        BART,
        (
            "model.shared.weight",
            "model.encoder.embed_tokens.weight",
            "model.decoder.embed_tokens.weight",
            "lm_head.weight",
        ),
    ),
    "Llama": ("LlamaForCausalLM", LLAMA | models.SIZES, ("model.embed_tokens.weight", "lm_head.weight")),
    "GPT-2": ("GPT2LMHeadModel", GPT2, ("transformer.wte.weight", "wte.weight", "lm_head.weight")),
    "BERT": (
        "BertForMaskedLM",
        BERT,
        ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
    ),
    "BERT's bias": ("BertForMaskedLM", BERT, ("cls.predictions.bias", "cls.predictions.decoder.bias")),
    "Mamba": ("MambaForCausalLM", MAMBA, ("backbone.embeddings.weight", "lm_head.weight")),
}


def logits(module: Any, ids: np.ndarray) -> np.ndarray:
    if "encoder" not in module.graphs:
        return run(module, "forward", ids=ids)["logits"]
    hidden = run(module, "encoder", ids=ids)["hidden"]
    count = np.full(len(ids), ids.shape[1], np.int32)
    return run(module, "decoder", ids=ids, encoder_hidden=hidden, encoder_count=count)["logits"]


def expected(oracle: Any, ids: np.ndarray) -> np.ndarray:
    more = {"decoder_input_ids": ids} if oracle.config.is_encoder_decoder else {}
    return models.logits_of(oracle, input_ids=ids, **more)


@pytest.mark.parametrize(
    ("case", "kept"),
    [
        pytest.param(case, k, marks=pytest.mark.slow if 0 < k < len(names) - 1 else ())
        for case, (_, _, names) in CASES.items()
        for k in range(len(names))
    ],
)
def test_any_one_of_a_set_is_enough(case: str, kept: int, tmp_path: Path) -> None:
    name, config, names = CASES[case]
    oracle = models.made(name, **config)
    oracle.tie_weights()
    file = models.saved(oracle, tmp_path) / "model.safetensors"
    tensors = load_file(file)
    whole = next(tensors[n] for n in names if n in tensors)
    tensors = {n: t for n, t in tensors.items() if n not in names} | {names[kept]: whole}
    save_file(tensors, file, metadata={"format": "pt"})
    module, ids = burnish.load(tmp_path), models.tokens((2, 7))
    assert_near(logits(module, ids), expected(oracle, ids))
    assert names[kept] in module.weights


@pytest.mark.parametrize("case", CASES)
def test_none_of_a_set_is_missed_by_its_first_name(case: str, tmp_path: Path) -> None:
    name, config, names = CASES[case]
    file = models.saved(models.made(name, **config), tmp_path) / "model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if n not in names}, file, metadata={"format": "pt"})
    with pytest.raises(LoadError, match=f"missing tensors: '{names[0]}'"):
        burnish.load(tmp_path)


def test_a_head_of_its_own_stands_in_for_nothing(tmp_path: Path) -> None:
    file = models.saved(models.llama(), tmp_path) / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.embed_tokens.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"missing tensors: 'model\.embed_tokens\.weight'"):
        burnish.load(tmp_path)


def test_of_two_that_are_stored_each_is_its_own(tmp_path: Path) -> None:
    """As madlad stores them: the table under the decoder's name, beside a head that differs."""
    oracle = models.t5()
    file = models.saved(oracle, tmp_path) / "model.safetensors"
    tensors = load_file(file)
    tensors["decoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    tensors["lm_head.weight"] = torch.randn((96, 64), generator=torch.Generator().manual_seed(5))
    save_file(tensors, file, metadata={"format": "pt"})
    oracle = type(oracle).from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = models.tokens((2, 7))
    assert_near(logits(burnish.load(tmp_path), ids), expected(oracle, ids))
