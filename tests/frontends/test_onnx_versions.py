"""Files of older operators, as the TorchScript exporter writes them: numbers, and what the pipeline recovers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from burnish.backends.interpreter import Interpreter
from burnish.frontends.onnx_file import load_onnx
from burnish.ir import Module, verify
from burnish.ir.origin import Block, block_of
from burnish.passes.pipelines import run_passes
from tests import models

GPT2 = {"vocab_size": 96, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4}
FAMILIES = {
    "bert": (models.bert, {"attention": 2, "layer_norm": 5, "gelu": 2, "softmax": 0, "erf": 0}),
    "gpt2": (lambda: models.made("GPT2LMHeadModel", **GPT2), {"attention": 2, "layer_norm": 5, "gelu": 2, "tanh": 0}),
    "llama": (models.llama, {"attention": 2, "rms_norm": 5, "silu": 2, "rope": 4, "cos": 0, "softmax": 0}),
}
CASES = [(f, v) for f in FAMILIES for v in (13, 14, 16, 17)]
SOON = [("bert", 13)]


def counted(module: Module, *ops: str) -> dict[str, int]:
    return {op: sum(n.op.name == op for n in module.graphs["forward"]) for op in ops}


@pytest.mark.parametrize(
    ("family", "version"),
    [pytest.param(f, v, marks=() if (f, v) in SOON else pytest.mark.slow) for f, v in CASES],
)
def test_an_older_export_is_read_and_recovered(family: str, version: int, tmp_path: Path) -> None:
    make, recovered = FAMILIES[family]
    model: Any = make()
    path = models.scripted(model, tmp_path / "model.onnx", version)
    for optimise in (False, True):
        module = load_onnx(path)
        verify(module)
        if optimise:
            run_passes(module, "default")
            assert counted(module, *recovered) == recovered
        for size in ((1, 1), (2, 7), (3, 16)):
            ids, mask = models.tokens(size), np.ones(size, np.int32)
            mask[-1, size[1] // 2 + 1 :] = 0
            with torch.no_grad():
                result = model(input_ids=torch.tensor(ids).long(), attention_mask=torch.tensor(mask).long())
            wanted = (result.logits if "logits" in result else result.last_hidden_state).numpy()
            (got,) = Interpreter(module)("forward", {"ids": ids, "attention_mask": mask}).values()
            assert np.abs(got - wanted).max() <= models.WITHIN * np.abs(wanted).max(), (size, optimise)


@pytest.mark.parametrize("family", ["llama", pytest.param("bert", marks=pytest.mark.slow)])
def test_parameters_and_blocks_are_called_as_in_the_model(family: str, tmp_path: Path) -> None:
    """The exporter transposes the matrices of linears, and numbers them; where a node stands says whose they are."""
    model: Any = FAMILIES[family][0]()
    module = load_onnx(models.scripted(model, tmp_path / "model.onnx", 17))
    ours = {k: np.asarray(module.source.read(k)) for k in module.weights} if module.source is not None else {}
    theirs = {k: v.numpy() for k, v in model.state_dict().items()}
    assert ours
    assert ours.keys() <= theirs.keys()
    for name, data in ours.items():
        assert data.tobytes() == theirs[name].tobytes(), name
    stack = {"llama": "model.layers", "bert": "encoder.layer"}[family]
    blocks = {block_of(n.origin.scope) for n in module.graphs["forward"]}
    assert blocks == {None, Block(stack, 0), Block(stack, 1)}
