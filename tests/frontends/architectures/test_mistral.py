"""Mistral beyond parity: a window that would be another."""


import numpy as np

from burnish.frontends.architectures.mistral import Mistral
from burnish.frontends.checkpoint import load_checkpoint
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, run


def test_another_window_is_noticed(tmp_path) -> None:
    module = load_checkpoint(models.saved(models.mistral(), tmp_path))
    ids = models.tokens((1, 19))
    logits = run(module, "forward", ids=ids)["logits"]
    other = models.logits_of(models.mistral(sliding_window=8), input_ids=ids)
    assert_near(logits[:, :7], other[:, :7])
    assert (np.abs(logits - other)[:, 7:].max(axis=-1) > 1e-3).all()


def test_laws() -> None:
    config = {"vocab_size": 32, "num_key_value_heads": 2, "sliding_window": 3} | models.SIZES
    check_architecture(Mistral, config | {"hidden_size": 32})
