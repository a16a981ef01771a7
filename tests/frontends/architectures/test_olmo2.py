"""OLMo 2 beyond parity: what a config need not say."""

from typing import Any

import transformers

from burnish.frontends.architectures.olmo2 import Olmo2
from burnish.frontends.checkpoint import load_checkpoint
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, run


def olmo2(**changes: Any) -> Any:
    given = {"vocab_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64, "eos_token_id": 1}
    config = transformers.Olmo2Config(**(given | models.SIZES | changes))
    return models.randomised(transformers.Olmo2ForCausalLM(config))


def test_a_config_that_says_little(tmp_path) -> None:
    oracle, ids = olmo2(num_key_value_heads=4), models.tokens((1, 9))
    spared = ("rms_norm_eps", "num_key_value_heads", "rope_parameters", "attention_bias", "tie_word_embeddings")
    module = load_checkpoint(models.saved_in_full(oracle, tmp_path, **dict.fromkeys(spared)))
    assert {n.op.eps for n in module.graphs["forward"] if n.op.name == "rms_norm"} == {1e-5}
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


def test_laws() -> None:
    check_architecture(Olmo2, {"vocab_size": 32, "num_key_value_heads": 2} | models.SIZES)
