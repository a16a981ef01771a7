"""Numbers that are none: found where weights are quantized, and before a text, a label or a vector is made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import burnish
from burnish.ir.format import FORMATS, Packed, QuantizeError
from burnish.runtime.finite import NotFinite
from tests import models
from tests.cli.conftest import Cli

NAN, INF = float("nan"), float("inf")
UP = "model.layers.1.mlp.up_proj.weight"
MADE = sorted(name for name, format in FORMATS.items() if format.is_made)
HALVES = sorted(n for n in MADE if any(p.dtype == "f2" for p in FORMATS[n].parts))
SIZES = {"hidden_size": 128, "intermediate_size": 128, "head_dim": 32}


def changed(folder: Path, change: Callable[[torch.Tensor], object], name: str = UP, **sizes: int) -> Path:
    """A checkpoint with another tensor of that name."""
    models.saved(models.llama(**(SIZES | sizes)), folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors[name])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def one(value: float) -> Callable[[torch.Tensor], object]:
    """One number of a weight."""
    return lambda w: w[3, 5].fill_(value)


@pytest.mark.parametrize(
    ("format", "value"), [*((format, NAN) for format in MADE), *((f, x) for f in ("q4_0", "int8") for x in (INF, -INF))]
)
def test_what_is_not_finite_is_not_quantized(format: str, value: float, tmp_path: Path) -> None:
    module = burnish.optimize(burnish.load(changed(tmp_path, one(value))), f"quantize-weights{{recipe={format}}},fuse")
    message = (
        f"tensor {UP} cannot be quantized to {format}: 1 of its numbers are NaN or infinite. .*: model.layers.1.mlp.up"
    )
    with pytest.raises(QuantizeError, match=message):
        burnish.compile(module, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(QuantizeError, match=message):  # the same as it is loaded
        burnish.executable(module, pipeline="").forward(models.tokens((1, 3)))


@pytest.mark.parametrize("format", HALVES)
@pytest.mark.parametrize("value", [-3e7, 3e7])
def test_scales_beyond_f16(format: str, value: float, tmp_path: Path) -> None:
    module = burnish.optimize(burnish.load(changed(tmp_path, one(value))), f"quantize-weights{{recipe={format}}}")
    with pytest.raises(
        QuantizeError, match=rf"{UP} cannot .* to {format}: a scale is beyond f16.*largest number is 3e\+07"
    ):
        burnish.compile(module, tmp_path / "out")


@pytest.mark.parametrize("format", HALVES)
def test_weights_that_would_become_zeros_or_noise(format: str, tmp_path: Path) -> None:
    """All of a tensor is below f16's scales; a group of such among others is rounded as ggml rounds it."""
    tiny = changed(tmp_path / "all", lambda w: w.mul_(1e-9))
    module = burnish.optimize(burnish.load(tiny), f"quantize-weights{{recipe={format}}}")
    with pytest.raises(QuantizeError, match=rf"{UP} cannot .* far below what f16 holds"):
        burnish.compile(module, tmp_path / "out")
    some = changed(tmp_path / "some", lambda w: w[3].mul_(1e-9))
    burnish.compile(burnish.optimize(burnish.load(some), f"quantize-weights{{recipe={format}}}"), tmp_path / "out")


@pytest.mark.parametrize("format", MADE)
@pytest.mark.parametrize("value", [0.0, 1.0, 1e-3])
def test_constant_weights_are_held(format: str, value: float) -> None:
    x = np.full((2, 256), value, np.float32)
    packed = Packed.quantize(np, x, format, checked=True)
    assert np.abs(packed.dequantize(np) - x).max() <= 0.01 * value


@pytest.mark.parametrize("format", ["int8", "int8_32"])
def test_formats_with_f32_scales_hold_all_that_is_finite(format: str) -> None:
    for size in (1e30, 1e-30):
        x = np.full((1, 32), size, np.float32)
        assert np.allclose(Packed.quantize(np, x, format, checked=True).dequantize(np), x, rtol=0.01, atol=0)


def test_another_recipe_takes_the_tensor_as_the_message_says(cli: Cli, tmp_path: Path) -> None:
    folder = changed(tmp_path, one(1e9))
    refused = cli("compile", folder, "-o", tmp_path / "out", "--quantize", "q4_0")
    assert (refused.code, refused.out) == (3, "")
    assert f"error: tensor {UP} cannot be quantized to q4_0" in refused.err and "Warning" not in refused.err
    rule = refused.err.partition("as it is: ")[2].split()[0]
    assert cli("compile", folder, "-o", tmp_path / "out", "--quantize", f"{rule};q4_0").code == 0
    assert cli("compile", folder, "-o", tmp_path / "out8", "--quantize", "int8").code == 0


# ----------------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize(
    ("value", "backend"),
    [(NAN, "numpy"), (INF, "numpy"), pytest.param(NAN, "xla", marks=pytest.mark.slow)],
)
def test_no_text_is_made_of_what_is_no_number(value: float, backend: str, cli: Cli, tmp_path: Path) -> None:
    ran = cli("run", changed(tmp_path, one(value)), "--prompt-ids", "5,6,7", "--backend", backend)
    assert (ran.code, ran.out.strip()) == (1, "")
    assert "error: the logits for new token 1: 96 of 96 are NaN or infinite" in ran.err
    assert "`burnish debug check` tells" in ran.err and "Traceback" not in ran.err and "Warning" not in ran.err


def test_a_text_ends_where_its_logits_do(tmp_path: Path) -> None:
    """The row of a token that is drawn first is what is not finite."""
    folder = changed(tmp_path, lambda w: w, tie_word_embeddings=False)
    model = burnish.executable(burnish.load(folder))
    first = next(model.generate([5, 6], 1))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"][first] = NAN
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokens = burnish.executable(burnish.load(folder)).generate([5, 6], 9)
    assert next(tokens) == first
    with pytest.raises(NotFinite, match="the logits for new token 2: "):
        next(tokens)


@pytest.mark.parametrize("name", ["BertModel", "BertForSequenceClassification", "BertForMaskedLM"])
def test_no_answer_either(name: str, cli: Cli, tmp_path: Path) -> None:
    oracle = models.made(name, vocab_size=96, max_position_embeddings=64, **models.SIZES)
    with torch.no_grad():
        dict(oracle.named_parameters())["bert." * (name != "BertModel") + "encoder.layer.0.output.dense.bias"][3] = NAN
    ran = cli("run", models.saved(oracle, tmp_path), "--prompt-ids", "5,6,7", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert ("hidden: " if name == "BertModel" else "logits: ") in ran.err and "are NaN or infinite" in ran.err
