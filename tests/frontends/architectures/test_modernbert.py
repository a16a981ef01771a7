"""ModernBERT beyond parity: what older versions wrote, what a config need not say, what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from burnish.frontends.architectures.modernbert import ModernBert
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from burnish.ir.module import Module
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, run

COUNTS = np.array([19, 7, 1], np.int32)
THETAS = {"full_attention": {"rope_type": "default", "rope_theta": 50.0}}
THETAS |= {"sliding_attention": {"rope_type": "linear", "rope_theta": 900.0, "factor": 2.0}}
BIASES = dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), True)


def modernbert(head: str, **changes: Any) -> Any:
    """Four layers, of which the first and the last see all, the others 3 tokens on each side."""
    given = {"vocab_size": 96, "max_position_embeddings": 64, "local_attention": 6, "pad_token_id": 0}
    config = transformers.ModernBertConfig(**(given | models.SIZES | {"num_hidden_layers": 4} | changes))
    return models.randomised(getattr(transformers, f"ModernBert{head}")(config))


def check(module: Module, oracle: Any) -> None:
    """Every real token of a padded batch."""
    ids = models.tokens((3, 19))
    mask = torch.tensor(np.arange(19) < COUNTS[:, None])
    with torch.no_grad():
        result = oracle(input_ids=torch.tensor(ids, dtype=torch.long), attention_mask=mask.long())
    name, theirs = next((k, result[k].numpy()) for k in ("logits", "last_hidden_state") if k in result)
    ours = run(module, "forward", ids=ids, count=COUNTS)["logits" if name == "logits" else "hidden"]
    assert ours.shape == theirs.shape
    for b, n in enumerate(COUNTS):
        rows = slice(n) if theirs.ndim == 3 else slice(None)
        assert_near(ours[b, rows], theirs[b, rows], f"sequence {b}")


def test_a_config_of_older_versions(tmp_path) -> None:
    """A theta for each type of layers by a name of its own, and every how many layers one sees all."""
    oracle = modernbert("ForMaskedLM", rope_parameters=THETAS | {"sliding_attention": {"rope_theta": 900.0}})
    older = {"global_rope_theta": 50.0, "local_rope_theta": 900.0, "global_attn_every_n_layers": 3}
    older |= {"layer_norm_eps": 1e-5, "position_embedding_type": "absolute", "repad_logits_with_grad": False}
    absent = dict.fromkeys(("rope_parameters", "layer_types"))
    module = load_checkpoint(models.saved_in_full(oracle, tmp_path, **absent, **older))
    assert [n.op.window for n in module.graphs["forward"].order() if n.op.name == "attention"] == [0, 4, 4, 0]
    check(module, oracle)


def test_a_config_that_says_little(tmp_path) -> None:
    oracle = modernbert("ForMaskedLM", local_attention=128)
    spared = ("rope_parameters", "layer_types", "norm_eps", "hidden_activation", "local_attention", "decoder_bias")
    module = load_checkpoint(models.saved_in_full(oracle, tmp_path, **dict.fromkeys(spared)))
    assert [n.op.window for n in module.graphs["forward"].order() if n.op.name == "attention"] == [0, 65, 65, 0]
    assert {n.op.eps for n in module.graphs["forward"] if n.op.name == "layer_norm"} == {1e-5}
    check(module, oracle)


@pytest.mark.parametrize(
    ("field", "value"), [("classifier_pooling", "max"), ("classifier_activation", "swash"), ("a_new_field", 1)]
)
def test_another_kind_is_refused(field, value, tmp_path) -> None:
    folder = models.saved_in_full(modernbert("ForSequenceClassification"), tmp_path, **{field: value})
    with pytest.raises(LoadError, match=field):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "head", ["ForMaskedLM", pytest.param("ForSequenceClassification", marks=pytest.mark.slow)]
)
def test_laws(head) -> None:
    config = {"vocab_size": 32, "local_attention": 4} | models.SIZES | {"hidden_size": 32, "num_hidden_layers": 3}
    check_architecture(ModernBert, config, head=head)
