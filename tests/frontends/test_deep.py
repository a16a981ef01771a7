"""Deep checkpoints, by counts: what a load and an optimization read, and how graphs grow. Their time: benchmarks."""

from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.ir.ops.experts import ExpertLinear
from burnish.ir.weights import StackedWeights, StoredWeights
from burnish.passes.engine import Context
from burnish.passes.pipelines import parse_pipeline
from tests import models

SIZES = {"hidden_size": 2048, "intermediate_size": 768, "num_attention_heads": 32, "num_key_value_heads": 4}


def optimised(folder: Path, layers: int, experts: int) -> Context:
    """A model of gigabytes, of which nothing is on disk."""
    folder.mkdir()
    models.header_alone("MixtralForCausalLM", folder, **SIZES, num_hidden_layers=layers, num_local_experts=experts)
    context = Context(burnish.load(folder).copy())
    for pass_ in parse_pipeline("default"):
        context.run(pass_)
    return context


def source_of(module: Any) -> StoredWeights:
    source = module.source
    assert isinstance(source, StackedWeights) and isinstance(source.source, StoredWeights)
    return source.source


def test_no_tensor_is_read_to_look_at_its_shape(tmp_path: Path) -> None:
    module = optimised(tmp_path / "model", 3, 8).module
    assert source_of(module).bytes_read == 0
    assert sum(node.op.name == ExpertLinear.name for node in module.graphs["forward"]) == 9


def test_experts_make_no_more_nodes_than_one(tmp_path: Path) -> None:
    few, many = (optimised(tmp_path / str(n), 2, n) for n in (4, 64))
    assert len(few.module.graphs["forward"]) == len(many.module.graphs["forward"])
    assert few.visited == many.visited
    assert len(few.module.weights) == len(many.module.weights)


@pytest.mark.slow
def test_layers_cost_alike(tmp_path: Path) -> None:
    found = [optimised(tmp_path / str(n), n, 8) for n in (4, 8, 16)]
    for counts in ([c.visited for c in found], [len(c.module.graphs["forward"]) for c in found]):
        assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])
