"""BART against transformers: its encoder and decoder, caches, the branches of its config, and the heads it has not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.frontends.architecture import LoadError
from burnish.frontends.checkpoint import load_checkpoint
from tests import models
from tests.frontends.architectures.feeding import assert_near, check_every_feeding, run

SIZES = {"vocab_size": 96, "d_model": 48, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 32}
SIZES |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
SPECIAL = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "stacks of different sizes, scaled embeddings, relu": {
        "decoder_layers": 3,
        "decoder_attention_heads": 3,
        "decoder_ffn_dim": 80,
        "scale_embedding": True,
        "activation_function": "relu",
    },
    "a head of its own": {"tie_word_embeddings": False},
}
COUNTS = np.array([13, 5, 1], np.int32)


@pytest.mark.parametrize("name", CONFIGS)
def test_numbers_are_the_oracles_however_the_tokens_are_fed(name: str, tmp_path: Path) -> None:
    oracle = models.made("BartForConditionalGeneration", **(SIZES | SPECIAL | CONFIGS[name]))
    with torch.no_grad():
        oracle.final_logits_bias.copy_(torch.linspace(-1, 1, 96)[None])
    module = load_checkpoint(models.saved(oracle, tmp_path))
    source, ids = np.maximum(models.tokens((3, 13), seed=1), 4), np.maximum(models.tokens((3, 19)), 4)
    mask = (np.arange(13) < COUNTS[:, None]).astype("i8")
    expected = models.logits_of(oracle, input_ids=source, attention_mask=mask, decoder_input_ids=ids)
    states = run(module, "encoder", ids=source, count=COUNTS)["hidden"]
    logits = run(module, "decoder", ids=ids, encoder_hidden=states, encoder_count=COUNTS)["logits"]
    assert_near(logits, expected)
    check_every_feeding(module, ids, expected, "decoder", source=(source, COUNTS))
    assert module.facts.makes_text and module.facts.decoder_start == 2


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("Model", "Bart has an encoder and a decoder: a head of Model goes on one graph"),
        ("ForCausalLM", "Bart goes with ForConditionalGeneration: a head of ForCausalLM does not go on it"),
        ("ForSequenceClassification", "Bart has no pooled, for a head of ForSequenceClassification"),
        ("ForQuestionAnswering", "Bart has no span, for a head of ForQuestionAnswering"),
    ],
)
def test_another_head_is_refused_by_name(head: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=message):
        load_checkpoint(models.saved_in_full(models.made(f"Bart{head}", **SIZES, **SPECIAL), tmp_path))
