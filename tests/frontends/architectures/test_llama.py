"""Llama beyond parity: shards, weights in bf16, and a number of the config that would be another."""


import numpy as np
import pytest
import torch
import transformers

from burnish.frontends.architectures.llama import Llama
from burnish.frontends.checkpoint import load_checkpoint
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, run


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
