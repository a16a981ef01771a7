"""Decoders beyond parity: packages, classification, answers, the end of the table of positions, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import burnish
from burnish.backends.binding import BindError
from burnish.frontends.architecture import ARCHITECTURES
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from burnish.ir.module import Module
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, check_forward, run

SIZES = {"vocab_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64} | models.SIZES
PHI3 = SIZES | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
GPT2 = {"vocab_size": 96, "n_embd": 48, "n_layer": 2, "n_head": 3, "n_positions": 64}
NEO = {"vocab_size": 96, "hidden_size": 48, "num_heads": 4, "num_layers": 2, "attention_types": [[["local"], 2]]}
NEOX = {"vocab_size": 96, "max_position_embeddings": 64} | models.SIZES
CLASSIFIED = {
    "Llama": SIZES,
    "Mistral": SIZES | {"sliding_window": 7},
    "Qwen2": SIZES,
    "Qwen3": SIZES | {"head_dim": 24},
    "Gemma2": SIZES | {"head_dim": 16, "sliding_window": 7},
    "GPT2": GPT2,
    "GPTBigCode": GPT2 | {"n_head": 4},
    "GPTNeo": NEO,
    "Bloom": {"vocab_size": 96, "hidden_size": 48, "n_head": 3},
    "Mpt": {"vocab_size": 96, "d_model": 48, "n_heads": 3, "n_layers": 2},
    "GPTNeoX": NEOX,
    "Phi3": PHI3,
}


def loaded(name: str, config: dict[str, Any], folder: Path) -> tuple[Any, Module]:
    """The oracle, and what is made of its checkpoint."""
    oracle = models.made(name, **config)
    return oracle, load_checkpoint(models.saved_in_full(oracle, folder))


@pytest.mark.slow
def test_on_xla_and_from_a_package(tmp_path: Path) -> None:
    """What was fused and transposed on disk too: rolled blocks, and the tensors of a package."""
    oracle, module = loaded("GPT2LMHeadModel", GPT2, tmp_path / "checkpoint")
    ids = models.tokens((2, 19))
    expected = models.logits_of(oracle, input_ids=ids)
    check_forward(module, ids, expected, "numpy")
    burnish.compile(burnish.optimize(module), tmp_path / "package")
    model = burnish.executable(burnish.load(tmp_path / "package"), "xla")
    assert_near(model.forward(ids)["logits"], expected)
    session = model.start(2, 19)
    assert_near(model.prefill(ids[:, :18], session), expected[:, 17])
    assert_near(model.decode(ids[:, 18], session), expected[:, 18])


@pytest.mark.parametrize("name", CLASSIFIED)
def test_a_sequence_is_classified_by_its_last_real_token(name: str, tmp_path: Path) -> None:
    config = CLASSIFIED[name] | {"pad_token_id": 0, "id2label": {0: "bad", 1: "fair", 2: "good"}}
    oracle, module = loaded(f"{name}ForSequenceClassification", config, tmp_path)
    ids, count = models.tokens((3, 11)), np.array([11, 5, 1], np.int32)
    mask = (np.arange(11) < count[:, None]).astype("i8")
    with torch.no_grad():
        given = torch.tensor(np.where(mask, ids, 0)).long()
        expected = oracle(input_ids=given, attention_mask=torch.tensor(mask)).logits.numpy()
    for m in (module, burnish.optimize(module)):
        logits = run(m, "forward", ids=ids, count=count)["logits"]
        assert logits.shape == (3, 3)
        assert_near(logits, expected)
    assert module.facts.labels == ("bad", "fair", "good")
    assert not burnish.executable(module).is_generative


@pytest.mark.parametrize("name", CLASSIFIED)
def test_each_token_is_classified(name: str, tmp_path: Path) -> None:
    """By `score`, or `classifier` in families that had such a head before all had one."""
    config = CLASSIFIED[name] | {"pad_token_id": 0, "id2label": {0: "bad", 1: "fair", 2: "good"}}
    oracle, module = loaded(f"{name}ForTokenClassification", config, tmp_path)
    ids = models.tokens((2, 9))
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))
    assert module.facts.labels == ("bad", "fair", "good")


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Qwen3", "GPT2", "GPTNeoX", "SmolLM3"])
def test_questions_are_answered(name: str, tmp_path: Path) -> None:
    """Their base model is called `transformer` in some, `model` in others."""
    oracle, module = loaded(f"{name}ForQuestionAnswering", (CLASSIFIED | {"SmolLM3": PHI3})[name], tmp_path)
    ids = models.tokens((2, 9))
    with torch.no_grad():
        expected = oracle(input_ids=torch.tensor(ids).long())
    found = run(module, "forward", ids=ids)
    for key in ("start_logits", "end_logits"):
        assert_near(found[key], expected[key].numpy())


def test_a_token_that_has_no_row_in_the_table_of_positions_is_refused(tmp_path: Path) -> None:
    oracle, module = loaded("GPT2LMHeadModel", GPT2 | {"n_positions": 12}, tmp_path)
    ids = models.tokens((1, 13))
    assert_near(run(module, "forward", ids=ids[:, :12])["logits"], models.logits_of(oracle, input_ids=ids[:, :12]))
    with pytest.raises(BindError, match="assumed that S <= 12, but they are 13 and 12"):
        run(module, "forward", ids=ids)
    model = burnish.executable(module)
    session = model.start(1, 13)
    with pytest.raises(BindError, match="<= 12, but they are 13 and 12"):
        model.prefill(ids[:, :2], session)


def test_a_pooling_by_the_first_token_would_be_noticed(tmp_path: Path) -> None:
    oracle, module = loaded("LlamaForSequenceClassification", SIZES | {"pad_token_id": 0}, tmp_path)
    ids = models.tokens((1, 7))
    expected = models.logits_of(oracle, input_ids=ids)
    with pytest.raises(AssertionError, match="of the largest"):
        assert_near(run(module, "forward", ids=ids[:, :1])["logits"], expected)


LAWS = {"vocab_size": 32, "num_key_value_heads": 2} | models.SIZES | {"hidden_size": 32}
OF_FAMILY: dict[str, dict[str, Any]] = {
    "Qwen2": LAWS | {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    "Qwen3": LAWS | {"head_dim": 8},
    "GPT2": {"vocab_size": 32, "n_embd": 32, "n_layer": 2, "n_head": 4},
    "Bloom": {"vocab_size": 32, "n_embed": 32, "n_layer": 2, "n_head": 4},
    "GPTNeoX": {k: v for k, v in LAWS.items() if k != "num_key_value_heads"} | {"rotary_pct": 0.5},
    "Phi3": LAWS | {"sliding_window": 3},
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("Qwen2", "GPT2") else pytest.mark.slow) for n in OF_FAMILY]
)
def test_laws(name: str) -> None:
    check_architecture(ARCHITECTURES[name], OF_FAMILY[name])


@pytest.mark.parametrize(
    ("name", "config", "changes", "message"),
    [
        ("GPT2LMHeadModel", GPT2, {"add_cross_attention": True}, "add_cross_attention=True"),
        ("Phi3ForCausalLM", PHI3, {"rope_scaling": {"type": "ntk"}, "rope_parameters": None}, "ntk"),
        ("Qwen2ForCausalLM", SIZES, {"layer_types": ["chunked_attention"] * 2}, "layer_types"),
        ("GPTNeoXForCausalLM", NEOX, {"num_attention_heads": 5}, "not a multiple"),
    ],
)
def test_another_kind_is_refused(name: str, config: Any, changes: Any, message: str, tmp_path: Path) -> None:
    folder = models.saved_in_full(models.made(name, **config), tmp_path)
    models.change_config(folder, **changes)
    with pytest.raises(LoadError, match=message):
        load_checkpoint(folder)


def test_the_head_of_gpt_neox_may_be_called_as_in_memory(tmp_path: Path) -> None:
    """Files say embed_out, and transformers 5 lm_head where it saves what it has in memory."""
    oracle, ids = models.made("GPTNeoXForCausalLM", **NEOX), models.tokens((1, 9))
    models.saved_in_full(oracle, tmp_path)
    oracle.save_pretrained(tmp_path, save_original_format=False)
    module = load_checkpoint(tmp_path)
    assert "lm_head.weight" in module.weights
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))
