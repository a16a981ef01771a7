"""Gemma beyond parity: what a config need not say, the embedding's scale in the weights' precision, and embeddings."""

import json
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import save_file

from burnish.frontends.architectures.gemma import Gemma2
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, run


def windows(module: Any) -> list[int]:
    """Of the attentions, in order."""
    return [node.op.window for node in module.graphs["forward"].order() if node.op.name == "attention"]


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


def test_an_embedding_of_both_ways(tmp_path) -> None:
    """As EmbeddingGemma has it: Gemma 3 that sees both ways, the mean of its states, two matrices, length 1."""
    given = {"vocab_size": 96, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 6, "num_hidden_layers": 3}
    oracle = models.made("Gemma3TextModel", **(models.SIZES | given | {"use_bidirectional_attention": True}))
    models.saved(oracle, tmp_path)
    random, matrices = np.random.default_rng(0), []
    kinds = ["Transformer", "Pooling", "Dense", "Dense", "Normalize"]
    for at, (kind, into) in enumerate(zip(kinds, (0, 64, 40, 64, 64), strict=True)):
        (tmp_path / f"{at}_{kind}").mkdir()
        pooling = {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True}
        config = pooling if kind == "Pooling" else {}
        if kind == "Dense":
            before = 64 if into == 40 else 40
            config = {"in_features": before, "out_features": into, "bias": False}
            config |= {"activation_function": "torch.nn.modules.linear.Identity"}
            matrices.append(random.normal(size=(into, before)).astype("f4"))
            save_file({"linear.weight": matrices[-1]}, tmp_path / f"{at}_{kind}/model.safetensors")
        (tmp_path / f"{at}_{kind}/config.json").write_text(json.dumps(config))
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{k}" if i else "", "type": f"sentence_transformers.models.{k}"}
        for i, k in enumerate(kinds)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    ids, counts = models.tokens((2, 14)), np.array([14, 5], "i4")
    found = run(load_checkpoint(tmp_path), "forward", ids=ids, count=counts)["embedding"]
    for b, n in enumerate(counts):
        with torch.no_grad():
            states = oracle(torch.tensor(ids[b : b + 1, :n], dtype=torch.long)).last_hidden_state[0].double().numpy()
        y = matrices[1].astype("f8") @ (matrices[0].astype("f8") @ states.mean(0))
        assert_near(found[b], (y / np.linalg.norm(y)).astype("f4"))
