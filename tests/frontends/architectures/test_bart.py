"""BART against transformers: what `generate` writes, a bias of the logits, the end of the table of positions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import burnish
from burnish.backends.binding import BindError
from burnish.frontends.architectures.bart import Bart
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, run

SIZES = {"vocab_size": 96, "d_model": 48, "max_position_embeddings": 64, "encoder_layers": 2, "decoder_layers": 2}
SIZES |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 80, "decoder_ffn_dim": 80}
APART = {"encoder_layers": 1, "decoder_layers": 3, "decoder_attention_heads": 2, "decoder_ffn_dim": 64}


def bart(**changes: Any) -> Any:
    return models.made("BartForConditionalGeneration", **(SIZES | changes))


@pytest.mark.slow
def test_greedy_text_is_the_oracles(tmp_path: Path) -> None:
    oracle = bart(eos_token_id=1, decoder_start_token_id=2, forced_eos_token_id=None)
    model = burnish.executable(load_checkpoint(models.saved(oracle, tmp_path)), activations="float")
    for seed in range(3):
        source = models.tokens((1, 4 + 3 * seed), seed=seed)
        with torch.no_grad():
            expected = oracle.generate(torch.tensor(source), max_new_tokens=16, do_sample=False, num_beams=1)[0]
        tokens = expected[1:].tolist()
        assert list(model.generate(source[0].tolist(), 16)) == [t for t in tokens if t != 1]


def test_a_bias_of_the_logits_counts_where_it_is_stored(tmp_path: Path) -> None:
    oracle = bart()
    folder = models.saved(oracle, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    bias = np.random.default_rng(0).standard_normal((1, 96)).astype("f4")
    save_file(tensors | {"final_logits_bias": bias}, folder / "model.safetensors")
    source, ids, count = models.tokens((1, 7), seed=1), models.tokens((1, 5)), np.array([7], "i4")
    module = load_checkpoint(folder)
    encoded = run(module, "encoder", ids=source, count=count)["hidden"]
    logits = run(module, "decoder", ids=ids, encoder_hidden=encoded, encoder_count=count)["logits"]
    oracle.final_logits_bias.copy_(torch.tensor(bias))
    assert_near(logits, models.logits_of(oracle, input_ids=source, decoder_input_ids=ids))


@pytest.mark.slow
def test_laws() -> None:
    check_architecture(Bart, SIZES | APART | {"d_model": 32})


def test_a_text_is_as_long_as_the_table_of_positions(tmp_path: Path) -> None:
    """Both of them, 32 tokens: one more is refused."""
    oracle = bart(max_position_embeddings=32, forced_eos_token_id=None)
    model = burnish.executable(load_checkpoint(models.saved(oracle, tmp_path)))
    source = models.tokens((1, 33))
    text = list(model.generate(source[0, :32].tolist(), 32, stop=()))
    assert len(text) == 32
    ids = np.array([[oracle.config.decoder_start_token_id, *text[:-1]]], "i4")
    expected = models.logits_of(oracle, input_ids=source[:, :32], decoder_input_ids=ids)
    assert text == expected[0].argmax(-1).tolist()
    with pytest.raises(BindError, match="assumed that T <= 32, but they are 33 and 32"):
        list(model.generate(source[0].tolist(), 1))
    with pytest.raises(BindError, match="<= 32, but they are 33 and 32"):
        list(model.generate([5, 6], 33, stop=()))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("Model", "Bart has an encoder and a decoder: a head of Model goes on one graph"),
        ("ForCausalLM", "Bart goes with ForConditionalGeneration: a head of ForCausalLM does not go on it"),
    ],
)
def test_another_head_is_refused_by_name(head: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=message):
        load_checkpoint(models.saved_in_full(models.made(f"Bart{head}", **SIZES), tmp_path))
