"""Mistral against transformers: windows shorter than half of the sequence, and none."""

from typing import Any

import numpy as np
import pytest

from burnish.frontends.architectures.mistral import Mistral
from burnish.frontends.checkpoint import load_checkpoint
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, check_forward, run

CONFIGS: dict[str, dict[str, Any]] = {
    "a window of 7": {},
    "a window of 4, heads of another size than hidden / heads": {"sliding_window": 4, "head_dim": 24},
    "no window": {"sliding_window": None},
    "the window of the family": {"sliding_window": 4096},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_numbers_are_the_oracles(name, tmp_path) -> None:
    oracle = models.mistral(**CONFIGS[name])
    module = load_checkpoint(models.saved(oracle, tmp_path))
    ids = models.tokens((2, 19))
    check_forward(module, ids, models.logits_of(oracle, input_ids=ids))
    windows = {node.op.window for node in module.graphs["forward"] if node.op.name == "attention"}
    assert windows == {CONFIGS[name].get("sliding_window", 7) or 0}


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
