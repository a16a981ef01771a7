"""Cohere beyond parity: what a config need not say, norms of heads in bf16."""

from typing import Any

import torch
import transformers

from burnish.frontends.architectures.cohere import Cohere
from burnish.frontends.checkpoint import load_checkpoint
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, run


def cohere(**changes: Any) -> Any:
    given = {"vocab_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64, "eos_token_id": 1}
    config = transformers.CohereConfig(**(given | models.SIZES | changes))
    return models.randomised(transformers.CohereForCausalLM(config))


def test_a_config_that_says_little(tmp_path) -> None:
    """The head is tied, logits are scaled by 1/16, and theta is 500,000."""
    oracle, ids = cohere(), models.tokens((1, 19))
    spared = ("logit_scale", "rope_parameters", "layer_norm_eps", "use_qk_norm", "tie_word_embeddings")
    module = load_checkpoint(models.saved_in_full(oracle, tmp_path, **dict.fromkeys(spared)))
    assert {n.op.eps for n in module.graphs["forward"] if n.op.name == "layer_norm"} == {1e-5}
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


def test_norms_of_heads_in_bf16(tmp_path) -> None:
    """A weight that no layer of `op` reads is as its file stores it: it is cast."""
    folder = models.saved_in_full(cohere(use_qk_norm=True).to(torch.bfloat16), tmp_path)
    oracle = transformers.CohereForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = models.tokens((1, 9))
    logits = run(load_checkpoint(folder), "forward", ids=ids)["logits"]
    assert_near(logits, models.logits_of(oracle, input_ids=ids))


def test_laws() -> None:
    check_architecture(Cohere, {"vocab_size": 32, "num_key_value_heads": 2, "use_qk_norm": True} | models.SIZES)
