"""The same weights as Flax stores them are the same model, to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import burnish
from burnish.frontends.config import LoadError
from tests import models
from tests.conventions import (
    Arrays,
    Parameters,
    as_flax,
    as_flax_safetensors,
    flax_names,
    msgpack,
    nested,
    parameters_of,
    scanned,
)

MODELS: dict[str, Callable[[], Any]] = {
    "bert": models.bert,
    "llama": models.llama,
    "t5": models.t5,
    "t5, tied": lambda: models.t5(feed_forward_proj="relu", tie_word_embeddings=True),
    "distilbert, tied, the head with a bias": lambda: models.made(
        "DistilBertForMaskedLM", vocab_size=96, dim=64, n_layers=2, n_heads=4, hidden_dim=96, max_position_embeddings=64
    ),
    "gpt2": lambda: models.made("GPT2LMHeadModel", n_embd=32, n_layer=2, n_head=2, vocab_size=96, n_positions=32),
}
LAYERS = {"bert": "layer", "llama": "layers", "gpt2": "h"}


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(name: str) -> Any:
    return MODELS[name]()


@pytest.fixture
def expected(model: Any, tmp_path: Path) -> Parameters:
    return parameters_of(burnish.load(models.saved(model, tmp_path / "safe")))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_of_msgpack(model: Any, expected: Parameters, wrapped: bool, tmp_path: Path) -> None:
    module = burnish.load(as_flax(model, tmp_path / "flax", wrapped=wrapped))
    assert module.source.bytes_read == 0
    assert parameters_of(module) == expected
    assert parameters_of(burnish.load(tmp_path / "flax/flax_model.msgpack")) == expected


def test_safetensors_of_its_names(model: Any, expected: Parameters, tmp_path: Path) -> None:
    assert parameters_of(burnish.load(as_flax_safetensors(model, tmp_path / "flax"))) == expected


def test_shards(model: Any, expected: Parameters, tmp_path: Path) -> None:
    folder, arrays = as_flax(model, tmp_path / "flax"), flax_names(model)
    (folder / "flax_model.msgpack").unlink()
    index = {}
    for i in range(2):
        file = f"flax_model-{i + 1:05}-of-00002.msgpack"
        part = dict(list(arrays.items())[i::2])
        (folder / file).write_bytes(msgpack(nested(part)))
        index |= {n.replace(".", "/"): file for n in part}
    (folder / "flax_model.msgpack.index.json").write_text(json.dumps({"weight_map": index}))
    assert parameters_of(burnish.load(folder)) == expected


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_were_scanned(name: str, model: Any, expected: Parameters, axis: int, tmp_path: Path) -> None:
    folder = as_flax(model, tmp_path / "flax", lambda arrays: scanned(arrays, LAYERS[name], axis))
    assert parameters_of(burnish.load(folder)) == expected


def test_an_axis_that_shapes_do_not_tell_is_refused(tmp_path: Path) -> None:
    model = models.llama(num_hidden_layers=4, hidden_size=4, intermediate_size=4, num_attention_heads=2, vocab_size=9)
    folder = as_flax(model, tmp_path, lambda arrays: scanned(arrays, "layers"))
    with pytest.raises(LoadError, match=r"input_layernorm\.weight' is f32\[4, 4\], which could be stacked on any"):
        burnish.load(folder)


def test_half_precision_stays(tmp_path: Path) -> None:
    def halves(arrays: Arrays) -> Arrays:
        return {n: a.astype(ml_dtypes.bfloat16) for n, a in arrays.items()}

    module = burnish.load(as_flax(models.bert(), tmp_path, halves))
    assert {entry.type.dtype for entry in module.weights.values()} == {"bf16"}


def less(arrays: Arrays) -> Arrays:
    return {n: a for n, a in arrays.items() if "layers.1.mlp.up_proj" not in n}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (less, "missing tensors: .*layers.1.mlp.up_proj.weight"),
        (lambda a: a | {"x.kernel": np.ones((2, 2), "f4")}, "tensors that nothing reads: .*x.kernel"),
        (
            lambda a: {n: v.T if "q_proj" in n or "k_proj" in n else v for n, v in a.items()},
            "k_proj.*must have the shape",
        ),
    ],
)
def test_a_file_that_does_not_fit(change: Callable[[Arrays], Arrays], message: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=message):
        burnish.load(as_flax(models.llama(), tmp_path, change))
