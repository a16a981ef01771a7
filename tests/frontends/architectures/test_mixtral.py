"""Mixtral beyond parity: experts by number on disk, stacked in the graph, quantized, rolled."""

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

import burnish
from burnish.frontends.architectures.mixtral import Mixtral
from burnish.frontends.checkpoint import load_checkpoint
from burnish.passes.pipelines import quantized
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, run

SIZES = {"vocab_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64} | models.SIZES


def mixtral(**changes: Any) -> Any:
    return models.made("MixtralForCausalLM", **(SIZES | {"num_local_experts": 4} | changes))


def rounded(oracle: Any, format: str) -> Any:
    """The oracle with the products of attention, experts and head rounded by gguf-py, routers left alone."""
    kind = gguf.GGMLQuantizationType[format.upper()]
    for name, p in oracle.named_parameters():
        if p.dim() >= 2 and "embed" not in name and "gate.weight" not in name:
            stored = gguf.quants.quantize(p.detach().numpy(), kind)
            p.data = torch.tensor(gguf.quants.dequantize(stored, kind))
    return oracle


@pytest.mark.slow
def test_quantized_rolled_and_from_a_package(tmp_path: Path) -> None:
    module = load_checkpoint(models.saved_in_full(mixtral(), tmp_path / "checkpoint"))
    oracle, ids = rounded(mixtral(), "q8_0"), models.tokens((2, 19))
    expected = models.logits_of(oracle, input_ids=ids)
    packed = burnish.optimize(module, quantized("q8_0"))
    burnish.compile(packed, tmp_path / "package")
    again = burnish.load(tmp_path / "package")
    types = {name: str(e.type) for name, e in again.weights.items()}
    assert {t for n, t in types.items() if "experts" in n} == {"q8_0[4, 96, 64]", "q8_0[4, 64, 96]"}
    assert {t for n, t in types.items() if n.endswith("gate.weight")} == {"f32[4, 64]"}  # the routers
    for m, backend in ((packed, "numpy"), (again, "numpy"), (again, "xla")):
        model = burnish.executable(m, backend, "float")
        assert_near(model.forward(ids)["logits"], expected, backend)
        session = model.start(2, 19)
        assert_near(model.prefill(ids[:, :18], session), expected[:, 17], backend)
        assert_near(model.decode(ids[:, 18], session), expected[:, 18], backend)
    plan = burnish.executable(again, "xla", "float").plan_text()
    assert "expert_linear.rows" in plan and "in the loop" in plan


def test_experts_in_another_order_are_noticed(tmp_path: Path) -> None:
    oracle = mixtral()
    module = load_checkpoint(models.saved_in_full(oracle, tmp_path))
    ids = models.tokens((1, 9))
    with torch.no_grad():
        experts = oracle.model.layers[0].mlp.experts
        experts.down_proj.copy_(experts.down_proj.flip(0))
    with pytest.raises(AssertionError, match="of the largest"):
        assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


@pytest.mark.slow
def test_laws() -> None:
    config = {"vocab_size": 32, "num_local_experts": 3, "num_key_value_heads": 2} | models.SIZES | {"hidden_size": 32}
    check_architecture(Mixtral, config, head="ForCausalLM")
