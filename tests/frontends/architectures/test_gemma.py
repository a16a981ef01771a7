"""Gemma 2 against transformers: windows, caps, and the embedding's scale in the weights' precision."""

import json
from typing import Any

import pytest
import torch
import transformers

from burnish.frontends.architectures.gemma import Gemma2
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, check_forward, run

CONFIGS: dict[str, dict[str, Any]] = {
    "windows of 7": {},
    "windows of 4 in the layers that the config says": {
        "sliding_window": 4,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
    },
    "no caps": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
    "a head of its own, biases, gelu": {
        "tie_word_embeddings": False,
        "attention_bias": True,
        "hidden_activation": "gelu",
        "num_key_value_heads": 4,
    },
}


def windows(module: Any) -> list[int]:
    """Of the attentions, in order."""
    return [node.op.window for node in module.graphs["forward"].order() if node.op.name == "attention"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_numbers_are_the_oracles(name, tmp_path) -> None:
    oracle = models.gemma2(**CONFIGS[name])
    module = load_checkpoint(models.saved(oracle, tmp_path))
    ids = models.tokens((2, 19))
    check_forward(module, ids, models.logits_of(oracle, input_ids=ids))
    assert windows(module) == ([0, 4, 4] if "layer_types" in CONFIGS[name] else [7, 0, 7])


def test_a_config_that_says_little(tmp_path) -> None:
    """What is absent is as the family has it; layers alternate."""
    oracle = models.gemma2(head_dim=256, num_key_value_heads=4, query_pre_attn_scalar=256, sliding_window=4096)
    folder = models.saved(oracle, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    caps = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 4.0}
    kept = ("architectures", "vocab_size", "intermediate_size", "hidden_size", "num_hidden_layers")
    said = {k: config[k] for k in (*kept, "num_attention_heads")}
    (folder / "config.json").write_text(json.dumps(said | caps))
    module, ids = load_checkpoint(folder), models.tokens((1, 9))
    assert windows(module) == [4096, 0, 4096]
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))
    (folder / "config.json").write_text(json.dumps(said))
    caps_of_the_family = {n.op.softcap for n in load_checkpoint(folder).graphs["forward"] if n.op.name == "attention"}
    assert caps_of_the_family == {50.0}


def test_the_scale_of_the_embedding_is_in_the_precision_of_the_weights(tmp_path) -> None:
    """sqrt(48) = 6.9282 is 6.9375 in bf16; the products are in f32."""
    module = load_checkpoint(models.saved(models.gemma2().to(torch.bfloat16), tmp_path))
    oracle = transformers.Gemma2ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = models.tokens((1, 9))
    logits = run(module, "forward", ids=ids)["logits"]
    with pytest.raises(AssertionError, match="of the largest"):
        assert_near(logits, models.logits_of(oracle, input_ids=ids))
    oracle.model.embed_tokens.embed_scale.fill_(6.9375)
    assert_near(logits, models.logits_of(oracle, input_ids=ids))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_bidirectional_attention", True),
        ("layer_types", ["full_attention"]),
        ("layer_types", ["full_attention"] * 2 + ["linear_attention"]),
        ("layer_types", "full_attention"),
        ("sliding_window", None),
        ("query_pre_attn_scalar", 0),
    ],
)
def test_another_kind_is_refused(field, value, tmp_path) -> None:
    folder = models.saved(models.gemma2(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(LoadError, match=field):
        load_checkpoint(folder)


def test_laws() -> None:
    config = {"vocab_size": 32, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 3} | models.SIZES
    check_architecture(Gemma2, config | {"hidden_size": 32})
