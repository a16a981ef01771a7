"""OLMo 2 against transformers: norms behind attention and MLP, and over all queries and all keys."""

from typing import Any

import pytest
import transformers

from burnish.frontends.architectures.olmo2 import Olmo2
from burnish.frontends.checkpoint import load_checkpoint
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, check_every_feeding, check_forward, run

CONFIGS: dict[str, dict[str, Any]] = {
    "grouped heads": {},
    "three heads of 20, one of keys, biases, a tied head": {
        "hidden_size": 60,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "attention_bias": True,
        "tie_word_embeddings": True,
    },
    "heads wider than their share, another theta": {
        "num_attention_heads": 6,
        "head_dim": 14,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0},
    },
}


def olmo2(**changes: Any) -> Any:
    given = {"vocab_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64, "eos_token_id": 1}
    config = transformers.Olmo2Config(**(given | models.SIZES | changes))
    return models.randomised(transformers.Olmo2ForCausalLM(config))


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_numbers_are_the_oracles(name, tmp_path) -> None:
    oracle = olmo2(**CONFIGS[name])
    module, ids = load_checkpoint(models.saved_in_full(oracle, tmp_path)), models.tokens((2, 19))
    check_forward(module, ids, models.logits_of(oracle, input_ids=ids))


@pytest.mark.parametrize("backend", ["numpy", pytest.param("xla", marks=pytest.mark.slow)])
def test_steps(backend, tmp_path) -> None:
    oracle, ids = olmo2(), models.tokens((3, 17))
    module = load_checkpoint(models.saved_in_full(oracle, tmp_path))
    check_every_feeding(module, ids, models.logits_of(oracle, input_ids=ids), backend=backend)


def test_a_config_that_says_little(tmp_path) -> None:
    oracle, ids = olmo2(num_key_value_heads=4), models.tokens((1, 9))
    spared = ("rms_norm_eps", "num_key_value_heads", "rope_parameters", "attention_bias", "tie_word_embeddings")
    module = load_checkpoint(models.saved_in_full(oracle, tmp_path, **dict.fromkeys(spared)))
    assert {n.op.eps for n in module.graphs["forward"] if n.op.name == "rms_norm"} == {1e-5}
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


@pytest.mark.parametrize("head", ["ForCausalLM", "ForSequenceClassification"])
def test_laws(head) -> None:
    check_architecture(Olmo2, {"vocab_size": 32, "num_key_value_heads": 2} | models.SIZES, head=head)
