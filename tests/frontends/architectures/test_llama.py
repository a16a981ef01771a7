"""Llama against transformers: every branch that a config can take, and every way to feed the tokens."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from burnish.frontends.architectures.llama import Llama
from burnish.frontends.checkpoint import load_checkpoint
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, check_every_feeding, run

LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
CONFIGS: dict[str, dict[str, Any]] = {
    "grouped heads": {},
    "a key head for each head": {"num_key_value_heads": 4},
    "one key head, heads wider than hidden / heads": {"num_key_value_heads": 1, "head_dim": 24},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "tied": {"tie_word_embeddings": True},
    "linear rope scaling": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000.0}},
    "llama3 rope scaling": {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 16}},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_numbers_are_the_oracles_however_the_tokens_are_fed(name, tmp_path) -> None:
    oracle = models.llama(**CONFIGS[name])
    module = load_checkpoint(models.saved(oracle, tmp_path))
    ids = models.tokens((3, 19))
    expected = models.logits_of(oracle, input_ids=ids)
    assert_near(run(module, "forward", ids=ids)["logits"], expected)
    check_every_feeding(module, ids, expected)


def test_shards(tmp_path) -> None:
    oracle = models.llama()
    folder = models.saved(oracle, tmp_path, max_shard_size="60KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    ids = models.tokens((1, 5))
    module = load_checkpoint(folder)
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


def test_weights_in_bf16_are_multiplied_in_f32(tmp_path) -> None:
    module = load_checkpoint(models.saved(models.llama().to(torch.bfloat16), tmp_path))
    oracle = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert {e.type.dtype for e in module.weights.values()} == {"bf16"}
    ids = models.tokens((1, 5))
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


def test_laws() -> None:
    config = {"vocab_size": 32, "num_key_value_heads": 2, "attention_bias": True} | models.SIZES
    check_architecture(Llama, config | {"hidden_size": 32})


def test_another_theta_is_noticed(tmp_path) -> None:
    """The comparison can fail: one number of the config is another."""
    oracle = models.llama()
    module = load_checkpoint(models.saved(oracle, tmp_path))
    other = models.llama(rope_parameters={"rope_type": "default", "rope_theta": 9000.0})
    ids = models.tokens((1, 9))
    assert np.abs(models.logits_of(oracle, input_ids=ids)).max() > 1
    with pytest.raises(AssertionError, match="of the largest"):
        assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(other, input_ids=ids))
