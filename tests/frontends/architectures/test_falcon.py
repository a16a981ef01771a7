"""Falcon: which of its kinds of blocks are read, and scores of tokens; its numbers are a matter of `tests/parity`."""

from typing import Any

import pytest

from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from tests import models
from tests.frontends.architectures.feeding import assert_near, run

SIZES = {k: v for k, v in models.SIZES.items() if k != "intermediate_size"} | {"vocab_size": 96}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alibi": True}, "alibi is true, but only rotary positions are supported"),
        ({"new_decoder_architecture": True, "parallel_attn": False}, "parallel_attn are not of one kind of block"),
        ({"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn and parallel_attn are not of one kind of block"),
        ({"num_ln_in_parallel_attn": 3}, "num_ln_in_parallel_attn must be an integer from 1 to 2, not 3"),
        ({"apply_residual_connection_post_layernorm": True}, "to make of apply_residual_connection_post_layernorm="),
    ],
)
def test_other_kinds_are_refused(fields: dict[str, Any], message: str, tmp_path) -> None:
    models.saved(models.made("FalconForCausalLM", **SIZES), tmp_path)
    models.change_config(tmp_path, **fields)
    with pytest.raises(LoadError, match=message):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("grouped", [True, False])
def test_scores_of_tokens(grouped: bool, tmp_path) -> None:
    given = SIZES | {"new_decoder_architecture": grouped, "num_kv_heads": 2, "num_labels": 3}
    oracle, ids = models.made("FalconForTokenClassification", **given), models.tokens((2, 9))
    module = load_checkpoint(models.saved(oracle, tmp_path))
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))
