"""Mixtures of experts beyond what parity covers: how they are stored, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import burnish
from burnish.frontends.architectures.glm4_moe import Glm4Moe
from burnish.frontends.architectures.gpt_oss import GptOss
from burnish.frontends.architectures.phimoe import PhiMoe
from burnish.frontends.config import LoadError
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, run
from tests.parity.types.experts import TYPES

BY_NAME = {t.cls: t for t in TYPES}


def checkpoint(name: str, folder: Path, variant: int = 0, **options: Any) -> tuple[Any, Path]:
    """A model of the parity types, and its checkpoint."""
    oracle = BY_NAME[name].made(BY_NAME[name].variants[variant]).model
    return oracle, models.saved(oracle, folder, **options)


#: fields of published files that transformers does not write
PUBLISHED: dict[str, dict[str, Any]] = {
    "GptOssForCausalLM": {"experts_per_token": 3, "initial_context_length": 12},
    "Ernie4_5_MoeForCausalLM": {"moe_capacity": [64], "moe_gate": "topk", "moe_use_aux_free": True}
    | {"num_nextn_predict_layers": 1},
    "PhimoeForCausalLM": {"architectures": ["PhiMoEForCausalLM"], "hidden_dropout": 0.0, "input_jitter_noise": 0.01},
    "Qwen3MoeForCausalLM": {"max_window_layers": 48, "rope_scaling": None, "torch_dtype": "bfloat16"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_configs_as_published_ones_have_them(name: str, tmp_path: Path) -> None:
    oracle, folder = checkpoint(name, tmp_path, variant=1)
    models.change_config(folder, **PUBLISHED[name])
    ids = models.tokens((1, 20), 40)
    assert_near(run(burnish.load(folder), "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


@pytest.mark.parametrize("name", ["Mixtral", "Qwen3Moe", "Phimoe", "GraniteMoe", "Ernie4_5_Moe"])
def test_as_transformers_has_it_in_memory(name: str, tmp_path: Path) -> None:
    """gate and up of all experts as one tensor, under the modules' names of today."""
    oracle, folder = checkpoint(f"{name}ForCausalLM", tmp_path, save_original_format=False)
    stored = load_file(folder / "model.safetensors")
    assert any(n.endswith("experts.gate_up_proj") for n in stored), sorted(stored)
    ids = models.tokens((2, 9), 40)
    found = run(burnish.load(folder), "forward", ids=ids)["logits"]
    assert_near(found, models.logits_of(oracle, input_ids=ids))


def test_experts_of_two_layouts_are_too_many(tmp_path: Path) -> None:
    _, folder = checkpoint("Qwen3MoeForCausalLM", tmp_path)
    file = folder / "model.safetensors"
    stored = load_file(file)
    down = [stored[f"model.layers.0.mlp.experts.{i}.down_proj.weight"] for i in range(4)]
    save_file(stored | {"model.layers.0.mlp.experts.down_proj": np.stack(down)}, file, {"format": "pt"})
    with pytest.raises(LoadError, match=r"nothing reads: 'model.layers.0.mlp.experts.0.down_proj.weight'"):
        burnish.load(folder)


@pytest.mark.parametrize("change", ["gone", "wide"])
def test_an_expert_that_does_not_fit_is_named(change: str, tmp_path: Path) -> None:
    _, folder = checkpoint("MixtralForCausalLM", tmp_path)
    file, name = folder / "model.safetensors", "model.layers.1.block_sparse_moe.experts.2.w1.weight"
    stored = load_file(file)
    matrix = stored.pop(name)
    save_file(stored | ({name: np.tile(matrix, 2)} if change == "wide" else {}), file, {"format": "pt"})
    with pytest.raises(LoadError, match=f"{'missing' if change == 'gone' else 'another shape'}.*'{name}'"):
        burnish.load(folder)


def test_experts_of_other_element_types_than_each_other_are_refused(tmp_path: Path) -> None:
    _, folder = checkpoint("MixtralForCausalLM", tmp_path)
    file, name = folder / "model.safetensors", "model.layers.1.block_sparse_moe.experts.2.w1.weight"
    stored = load_file(file)
    save_file(stored | {name: stored[name].astype("f2")}, file, {"format": "pt"})
    with pytest.raises(LoadError, match=r"stack.*f16"):
        burnish.load(folder)


def test_layers_that_guess_further_tokens_are_left_alone(tmp_path: Path) -> None:
    oracle, folder = checkpoint("Glm4MoeForCausalLM", tmp_path)
    file, ids = folder / "model.safetensors", models.tokens((1, 9), 40)
    further = {"model.layers.2.eh_proj.weight": np.zeros((64, 128), "f4")}
    save_file(load_file(file) | further, file, {"format": "pt"})
    assert_near(run(burnish.load(folder), "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))
    models.change_config(folder, num_nextn_predict_layers=0)
    with pytest.raises(LoadError, match=r"model.layers.2.eh_proj.weight"):
        burnish.load(folder)


def test_quantized_gpt_oss_is_refused_by_its_name(tmp_path: Path) -> None:
    _, folder = checkpoint("GptOssForCausalLM", tmp_path)
    models.change_config(folder, quantization_config={"quant_method": "mxfp4"})
    with pytest.raises(LoadError, match="quantized by MXFP4"):
        burnish.load(folder)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("Glm4MoeForCausalLM", {"n_group": 3, "topk_group": 1}, "n_routed_experts 4 do not divide into n_group 3"),
        ("MixtralForCausalLM", {"num_experts_per_tok": 5}, "5 is more than 4"),
        ("Qwen2MoeForCausalLM", {"mlp_only_layers": [True]}, "mlp_only_layers must be a list of integers"),
        ("OlmoeForCausalLM", {"clip_qkv": 0.0}, "clip_qkv must be a number"),
    ],
)
def test_what_cannot_be_is_refused(name: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    _, folder = checkpoint(name, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(LoadError, match=message):
        burnish.load(folder)


SMALL = models.SIZES | {"vocab_size": 32, "hidden_size": 32, "num_key_value_heads": 2, "num_experts_per_tok": 2}


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        pytest.param(
            GptOss,
            {"num_local_experts": 3, "sliding_window": 5, "head_dim": 8, "rope_parameters": {"rope_theta": 1e4}},
            marks=pytest.mark.slow,
        ),
        pytest.param(PhiMoe, {"num_local_experts": 3, "router_jitter_noise": 0.3}, marks=pytest.mark.slow),
        (Glm4Moe, {"n_routed_experts": 8, "moe_intermediate_size": 24, "n_group": 4, "topk_group": 2}),
    ],
)
def test_laws(architecture: Any, config: dict[str, Any]) -> None:
    check_architecture(architecture, SMALL | config, head="ForCausalLM")
