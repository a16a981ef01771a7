"""Mamba against transformers' sequential path."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from burnish.frontends.checkpoint import load_checkpoint
from tests import models
from tests.frontends.architectures.feeding import assert_near, check_forward, run

CONFIGS: dict[str, dict[str, Any]] = {
    "tied": {},
    "a head of its own, biases, other sizes": {
        "tie_word_embeddings": False,
        "use_bias": True,
        "time_step_rank": 5,
        "expand": 3,
        "conv_kernel": 3,
        "hidden_size": 40,
    },
    "no bias of the convolution, which nothing but gelu follows": {"use_conv_bias": False, "hidden_act": "gelu"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_numbers_are_the_oracles(name, tmp_path) -> None:
    oracle = models.mamba(**CONFIGS[name])
    module = load_checkpoint(models.saved(oracle, tmp_path))
    ids = models.tokens((2, 19))
    expected = models.logits_of(oracle, input_ids=ids)
    check_forward(module, ids, expected, *(("numpy", "xla") if name == "tied" else ("numpy",)))
    assert_near(run(module, "forward", ids=ids[:, :1])["logits"], expected[:, :1])  # fewer tokens than the kernel


def test_tokens_far_back_are_remembered(tmp_path) -> None:
    """The comparison feels the state: another first token changes the last of 19."""
    module = load_checkpoint(models.saved(models.mamba(), tmp_path))
    ids = models.tokens((1, 19))
    other = ids.copy()
    other[0, 0] += 1
    a, b = (run(module, "forward", ids=x)["logits"][0, -1] for x in (ids, other))
    assert np.abs(a - b).max() > 1e-4 * np.abs(a).max()


def test_weights_in_bf16_are_multiplied_in_f32(tmp_path) -> None:
    module = load_checkpoint(models.saved(models.mamba().to(torch.bfloat16), tmp_path))
    oracle = transformers.MambaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = models.tokens((1, 9))
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))
