"""Meta's and Mistral's own files are the model that transformers makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import burnish
from burnish.frontends.config import LoadError
from burnish.runtime.sources import kind_of
from tests import models
from tests.conventions import as_consolidated, in_pairs, parameters_of
from tests.frontends.architectures.feeding import assert_near, check_every_feeding, run

LLAMA2 = {"multiple_of": 32, "ffn_dim_multiplier": None}
#: intermediate_size by ceil((2/3 * 4 * 64) / 32) * 32
WIDE = {"intermediate_size": 192}
SCALED = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
SCALED |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def saved(model: Any, folder: Path) -> Path:
    return models.saved(model, folder)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("by_rows", [False, True])
def test_llama(parts: int, by_rows: bool, tmp_path: Path) -> None:
    oracle = models.llama(**WIDE)
    folder = as_consolidated(oracle, tmp_path / "meta", LLAMA2, parts, by_rows=by_rows)
    module = burnish.load(folder)
    assert kind_of(folder) == "consolidated" and module.facts.architecture == "LlamaForCausalLM"
    assert module.source.bytes_read == 0
    ids = models.tokens((3, 19))
    check_every_feeding(module, ids, models.logits_of(oracle, input_ids=ids))
    assert burnish.load(folder / "consolidated.00.pth") == module


@pytest.mark.parametrize("parts", [1, 2])
def test_parameters_are_those_of_the_checkpoint_to_the_bit(parts: int, tmp_path: Path) -> None:
    """But for the rows of queries and keys, whose pairs lie otherwise."""
    oracle = models.llama(**WIDE)
    theirs = parameters_of(burnish.load(saved(oracle, tmp_path / "safe")))["forward"]
    ours = parameters_of(burnish.load(as_consolidated(oracle, tmp_path / "meta", LLAMA2, parts)))["forward"]
    turned = 0
    for (type, mine), (wanted, expected) in zip(ours, theirs, strict=True):
        assert type == wanted
        if mine != expected:
            rows = np.frombuffer(expected, "f4").reshape(-1, 64)
            assert mine == in_pairs(rows, len(rows) // 16).tobytes()
            turned += 1
    assert turned == 2 * oracle.config.num_hidden_layers


def test_what_is_usual_is_not_said(tmp_path: Path) -> None:
    """As many heads of keys as of queries, and an epsilon of 1e-5."""
    oracle = models.llama(**WIDE, num_key_value_heads=4, rms_norm_eps=1e-5)
    module = burnish.load(as_consolidated(oracle, tmp_path, LLAMA2 | {"n_kv_heads": None, "norm_eps": None}))
    ids = models.tokens((2, 9))
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


def test_scaled_frequencies(tmp_path: Path) -> None:
    oracle = models.llama(**WIDE, rope_parameters=SCALED)
    params = LLAMA2 | {"rope_theta": 500000.0, "use_scaled_rope": True}
    with pytest.raises(LoadError, match=r"add rope_scaling_factor, 8 of Llama 3\.1, 32 of 3\.2"):
        burnish.load(as_consolidated(oracle, tmp_path, params))
    module = burnish.load(as_consolidated(oracle, tmp_path, params | {"rope_scaling_factor": 8}))
    ids = models.tokens((2, 30))
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


def test_mistral_with_windows(tmp_path: Path) -> None:
    oracle = models.mistral(head_dim=16)
    params = {"hidden_dim": 96, "head_dim": 16, "sliding_window": 7}
    module = burnish.load(as_consolidated(oracle, tmp_path, params, kind="safetensors"))
    assert module.facts.architecture == "MistralForCausalLM"
    ids = models.tokens((2, 30))
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


def test_mixtral(tmp_path: Path) -> None:
    sizes = {"vocab_size": 96, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
    oracle = models.made("MixtralForCausalLM", **models.SIZES, **sizes)
    params = {"hidden_dim": 96, "rope_theta": 1e6, "moe": {"num_experts": 4, "num_experts_per_tok": 2}}
    module = burnish.load(as_consolidated(oracle, tmp_path, params))
    assert module.facts.architecture == "MixtralForCausalLM"
    ids = models.tokens((2, 9))
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


def test_tied_embeddings(tmp_path: Path) -> None:
    oracle = models.llama(**WIDE, tie_word_embeddings=True)
    folder = as_consolidated(oracle, tmp_path, LLAMA2 | {"tied_embeddings": True})
    tensors = torch.load(folder / "consolidated.00.pth")
    del tensors["output.weight"]
    torch.save(tensors, folder / "consolidated.00.pth")
    ids = models.tokens((2, 9))
    logits = run(burnish.load(folder), "forward", ids=ids)["logits"]
    assert_near(logits, models.logits_of(oracle, input_ids=ids))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("by_rows", [False, True])
def test_a_vocabulary_that_is_as_large_as_its_table(parts: int, by_rows: bool, tmp_path: Path) -> None:
    oracle = models.llama(**WIDE)
    whole = burnish.load(as_consolidated(oracle, tmp_path / "a", LLAMA2, parts, by_rows=by_rows))
    open_ = LLAMA2 | {"vocab_size": -1}
    assert burnish.load(as_consolidated(oracle, tmp_path / "b", open_, parts, by_rows=by_rows)) == whole


def test_transformers_files_go_before_them(tmp_path: Path) -> None:
    """A folder may hold both."""
    oracle = models.llama(**WIDE)
    saved(oracle, tmp_path)
    as_consolidated(oracle, tmp_path, {"nonsense": 1})
    assert kind_of(tmp_path) == "checkpoint" and burnish.load(tmp_path).weights
    (tmp_path / "model.safetensors").unlink()
    assert kind_of(tmp_path) == "consolidated"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"hidden_dim": 192, "multiple_of": None}, "does not say rope_theta, for which 10000 and 1000000 are in use"),
        ({"yarn": {"factor": 4}}, r"params\.json: yarn=.* is not supported"),
        ({"quantization": {"qformat_weight": "fp8_e4m3"}}, "quantization=.* is not supported"),
        ({"multiple_of": 256}, "tensors of another shape or type than the config says: .*w1.weight"),
        ({"n_layers": 3}, "missing tensors: 'layers.2.attention"),
        ({"n_layers": 1}, "tensors that nothing reads: 'layers.1"),
        ({"dim": None}, "hidden_size is missing|dim is missing"),
        ({"vocab_size": "many"}, "vocab_size must be an integer"),
    ],
)
def test_what_is_not_said_or_not_supported(params: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = as_consolidated(models.llama(**WIDE), tmp_path, LLAMA2 | params)
    with pytest.raises(LoadError, match=message):
        burnish.load(folder)


def test_parts_that_do_not_belong_together(tmp_path: Path) -> None:
    folder = as_consolidated(models.llama(**WIDE), tmp_path, LLAMA2, 2)
    tensors = torch.load(folder / "consolidated.01.pth")
    torch.save({n: t for n, t in tensors.items() if n != "norm.weight"}, folder / "consolidated.01.pth")
    with pytest.raises(LoadError, match="the consolidated files have other tensors than each other"):
        burnish.load(folder)
    torch.save(tensors | {"norm.weight": torch.ones(3)}, folder / "consolidated.01.pth")
    with pytest.raises(LoadError, match=r"norm: its pieces are f32\[64\], f32\[3\]"):
        burnish.load(folder)
    (folder / "consolidated.01.pth").unlink()
    with pytest.raises(LoadError, match="tensors of another shape"):
        burnish.load(folder)
    for i in (1, 2):
        torch.save(tensors, folder / f"consolidated.{i:02}.pth")
    with pytest.raises(LoadError, match=r"3 pieces of f32\[.*\] are not \[.*\] along any axis"):
        burnish.load(folder)
