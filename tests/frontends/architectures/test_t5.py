"""T5 against transformers: what `generate` writes, a head of its own, the last bucket."""

from typing import Any

import numpy as np
import pytest
import torch

import burnish
from burnish.frontends.architectures.t5 import T5
from burnish.frontends.checkpoint import load_checkpoint
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, run

V1_0 = {"feed_forward_proj": "relu", "tie_word_embeddings": True}


def t5(**changes: Any) -> Any:
    """The oracle; transformers ties the head always, so v1.1 gets its own here."""
    oracle = models.t5(**changes)
    if not oracle.config.scale_decoder_outputs:
        generator = torch.Generator().manual_seed(1)
        oracle.lm_head.weight = torch.nn.Parameter(torch.randn(96, 64, generator=generator) / 8)
    return oracle


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, V1_0], ids=["v1.1", "v1.0"])
def test_greedy_text_is_the_oracles(changes, tmp_path) -> None:
    oracle = t5(**changes)
    module = burnish.optimize(load_checkpoint(models.saved(oracle, tmp_path)))
    executable = burnish.executable(module, activations="float")
    for seed in range(4):
        source = models.tokens((1, 4 + 3 * seed), seed=seed)
        with torch.no_grad():
            expected = oracle.generate(torch.tensor(source), max_new_tokens=24, do_sample=False, num_beams=1)[0]
        tokens = expected[1:].tolist()  # behind the token that starts a decoder
        assert list(executable.generate(source[0].tolist(), 24)) == [t for t in tokens if t != 1]
        assert 1 not in tokens[:-1]


def test_a_head_of_its_own_is_read_where_it_is_stored(tmp_path) -> None:
    own = load_checkpoint(models.saved(t5(), tmp_path / "own"))
    tied = load_checkpoint(models.saved(models.t5(), tmp_path / "tied"))
    assert "lm_head.weight" in own.weights and "lm_head.weight" not in tied.weights
    heads = [m.graphs["decoder"].outputs["logits"].node.source_tensors for m in (own, tied)]
    assert heads == [("lm_head.weight",), ("shared.weight",)]


def test_laws() -> None:
    config = {"vocab_size": 32, "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4}
    check_architecture(T5, config | {"feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 8})


def test_distances_beyond_the_last_bucket(tmp_path) -> None:
    """150 tokens: further apart than the 128 after which all distances share a bucket."""
    oracle = t5()
    module = load_checkpoint(models.saved(oracle, tmp_path))
    source, ids = models.tokens((1, 150), seed=1), models.tokens((1, 150))
    count = np.array([150], np.int32)
    hidden = run(module, "encoder", ids=source, count=count)["hidden"]
    logits = run(module, "decoder", ids=ids, encoder_hidden=hidden, encoder_count=count)["logits"]
    assert_near(logits, models.logits_of(oracle, input_ids=source, decoder_input_ids=ids))
