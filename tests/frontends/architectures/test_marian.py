"""Marian: a table of positions that a file holds counts; the newest files leave it out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from tests import models
from tests.frontends.architectures.feeding import run
from tests.parity.laws import forward_error
from tests.parity.model_type import Oracle
from tests.parity.types.seq2seq import BART


def test_a_stored_table_of_positions_counts(tmp_path: Path) -> None:
    oracle = Oracle(models.made("MarianMTModel", **BART))
    folder, file = oracle.saved(tmp_path), tmp_path / "model.safetensors"
    assert forward_error(load_checkpoint(folder), oracle) < models.WITHIN
    table = np.random.default_rng(0).standard_normal((64, 48)).astype("f4")
    tables = {f"model.{stack}.embed_positions.weight": table for stack in ("encoder", "decoder")}
    save_file(load_file(file) | tables, file)
    assert forward_error(load_checkpoint(folder), oracle) > models.WITHIN
    for stack in (oracle.model.model.encoder, oracle.model.model.decoder):
        stack.embed_positions.weight.copy_(torch.tensor(table))
    assert forward_error(load_checkpoint(folder), Oracle(oracle.model)) < models.WITHIN


def test_one_vocabulary_of_two_sizes_is_refused(tmp_path: Path) -> None:
    """Where it is not tied: else transformers takes no notice of the second size."""
    oracle = models.made("MarianMTModel", **BART, tie_word_embeddings=False, decoder_vocab_size=70)
    with pytest.raises(LoadError, match="decoder_vocab_size differs from vocab_size"):
        load_checkpoint(models.saved_in_full(oracle, tmp_path))


def test_without_a_table_a_text_may_be_longer_than_in_training(tmp_path: Path) -> None:
    module = load_checkpoint(Oracle(models.made("MarianMTModel", **BART)).saved(tmp_path))
    hidden = run(module, "encoder", ids=models.tokens((1, 70)), count=np.array([70], "i4"))["hidden"]
    assert hidden.shape == (1, 70, 48) and np.isfinite(hidden).all()
