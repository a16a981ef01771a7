"""GPTQ against transformers on the numbers that its three tensors stand for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import burnish
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from tests import models
from tests.frontends.architectures.feeding import assert_near, check_every_feeding, run
from tests.packed_files import as_gptq

SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaForCausalLM", {"num_key_value_heads": 2}),
    "Qwen2, with biases": ("Qwen2ForCausalLM", {"num_key_value_heads": 2}),
    "Phi-3, rows joined on disk": ("Phi3ForCausalLM", {"num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1}),
}


def made(name: str) -> Any:
    cls, changes = FAMILIES[name]
    return models.made(cls, **({"vocab_size": 96, "max_position_embeddings": 64} | SIZES | changes))


@pytest.mark.parametrize(
    ("name", "format"),
    [
        pytest.param(n, f, marks=() if (n, f) == ("Llama", "gptq") else pytest.mark.slow)
        for n in FAMILIES
        for f in ("gptq", "gptq_v2")
    ],
)
def test_numbers_are_the_oracles_however_the_tokens_are_fed(name: str, format: str, tmp_path: Path) -> None:
    oracle = made(name)
    module = load_checkpoint(as_gptq(tmp_path, oracle, checkpoint_format=format))
    ids = models.tokens((3, 19))
    expected = models.logits_of(oracle, input_ids=ids)
    packed = burnish.optimize(module)
    linears = {str(n["w"].type) for n in packed.graphs["forward"] if n.op.name == "linear"}
    assert {t.partition("[")[0] for t in linears} == {"int4_128", "f32"}  # the head is not quantized
    assert_near(run(module, "forward", ids=ids)["logits"], expected)
    check_every_feeding(module, ids, expected)


def test_matrices_that_the_family_stores_transposed_are_not(tmp_path: Path) -> None:
    """GPT-2's: the tools that write such files turn them first."""
    oracle = models.made("GPT2LMHeadModel", vocab_size=96, n_embd=128, n_layer=2, n_head=4, n_positions=64)
    ends = ("c_attn", "c_proj", "c_fc")
    folder = as_gptq(tmp_path, oracle, ends, transposed=True)
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors")
    module, ids = load_checkpoint(folder), models.tokens((2, 9))
    expected = models.logits_of(oracle, input_ids=ids)
    assert_near(run(module, "forward", ids=ids)["logits"], expected)
    assert_near(burnish.executable(burnish.optimize(module), "numpy", "float").forward(ids)["logits"], expected)


def test_the_head_may_be_packed_too(tmp_path: Path) -> None:
    oracle = made("Llama")
    module = load_checkpoint(as_gptq(tmp_path, oracle, ("_proj", "lm_head"), lm_head=True))
    ids = models.tokens((1, 9))
    assert {e.type.dtype for n, e in module.weights.items() if n.startswith("lm_head")} == {"i32", "f16"}
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


@pytest.mark.parametrize("value", [0, 1])
def test_a_bias_that_the_family_has_not_must_be_zero(value: int, tmp_path: Path) -> None:
    oracle = made("Llama")
    folder = as_gptq(tmp_path, oracle)
    tensors = load_file(folder / "model.safetensors")
    packed = [n.removesuffix(".qweight") for n in tensors if n.endswith(".qweight")]
    biases = {f"{n}.bias": np.full(tensors[f"{n}.qweight"].shape[1], value, "f2") for n in packed}
    save_file(tensors | biases, folder / "model.safetensors")
    ids = models.tokens((1, 9))
    if value:
        with pytest.raises(LoadError, match=r"tensors that nothing reads: .*down_proj\.bias"):
            load_checkpoint(folder)
    else:
        logits = run(load_checkpoint(folder), "forward", ids=ids)["logits"]
        assert_near(logits, models.logits_of(oracle, input_ids=ids))


def test_any_words_are_numbers(tmp_path: Path) -> None:
    """Zero points up to 16, and codes far from what they stand for."""
    oracle, rng = made("Llama"), np.random.default_rng(0)
    folder = as_gptq(tmp_path, oracle)
    tensors = load_file(folder / "model.safetensors")
    for name in [n.removesuffix(".qweight") for n in tensors if n.endswith(".qweight")]:
        for part in ("qweight", "qzeros"):
            shape = tensors[f"{name}.{part}"].shape
            tensors[f"{name}.{part}"] = rng.integers(0, 1 << 32, shape, dtype="u4").view("i4")
        words, zeros, scales = (tensors[f"{name}.{p}"] for p in ("qweight", "qzeros", "scales"))
        n, k = np.indices((words.shape[1], words.shape[0] * 8))
        code = (words[k // 8, n] >> (4 * (k % 8))) & 15
        zero = ((zeros[k // 128, n // 8] >> (4 * (n % 8))) & 15) + 1
        with torch.no_grad():
            oracle.get_parameter(f"{name}.weight").copy_(torch.tensor((code - zero) * scales[k // 128, n].astype("f4")))
    save_file(tensors, folder / "model.safetensors")
    ids = models.tokens((1, 9))
    logits = run(load_checkpoint(folder), "forward", ids=ids)["logits"]
    assert_near(logits, models.logits_of(oracle, input_ids=ids))


@pytest.mark.slow
def test_on_xla_and_from_a_package(tmp_path: Path) -> None:
    oracle = made("Llama")
    module = burnish.optimize(load_checkpoint(as_gptq(tmp_path / "checkpoint", oracle)))
    burnish.compile(module, tmp_path / "package")
    again = burnish.load(tmp_path / "package")
    assert {e.type.dtype for e in again.weights.values()} == {"int4_128", "f32"}
    ids = models.tokens((2, 11))
    expected = models.logits_of(oracle, input_ids=ids)
    for m, backend in ((module, "numpy"), (again, "numpy"), (again, "xla")):
        assert_near(burnish.executable(m, backend, "float").forward(ids)["logits"], expected, backend)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"desc_act": True}, r"desc_act \(act-order\) is not supported"),
        ({"bits": 8}, "bits 8 is not supported; supported is 4"),
        ({"group_size": 32}, "group_size 32 is not supported; supported is 128"),
        ({"group_size": -1}, "group_size -1 is not supported"),
        ({"checkpoint_format": "marlin"}, "checkpoint_format 'marlin' is not supported"),
        ({"dynamic": {"-:.*": {}}}, "does not know what to make of quantization_config.dynamic="),
        ({"quant_method": "awq"}, "quant_method 'awq' is not supported; supported are gptq"),
        ({"quant_method": ["gptq"]}, "quant_method"),
        ({"quant_method": None}, "quant_method None is not supported"),
    ],
)
def test_other_ways_to_quantize_are_named(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = as_gptq(tmp_path, made("Llama"))
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    models.change_config(folder, quantization_config=config | settings)
    with pytest.raises(LoadError, match=message):
        load_checkpoint(folder)


MODULE = "model.layers.1.mlp.down_proj"


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("g_idx", lambda x: x[::-1].copy(), "the inputs are in another order"),
        ("g_idx", lambda x: x[:-1].copy(), "the inputs are in another order"),
        ("qzeros", None, rf"{MODULE}\.qzeros is missing"),
        ("scales", lambda x: x.astype("f4"), r"scales is f32\[2, 128\], but must be f16\[2, 128\]"),
        ("qweight", lambda x: x[:-1].copy(), r"qweight is i32\[31, 128\], but must be i32\[32, 128\]"),
        ("qzeros", lambda x: x.view("u4"), "qzeros is u32"),
    ],
)
def test_tensors_that_do_not_fit_are_named(part: str, change: Any, message: str, tmp_path: Path) -> None:
    folder = as_gptq(tmp_path, made("Llama"))
    tensors = load_file(folder / "model.safetensors")
    name = f"{MODULE}.{part}"
    tensors = {k: v for k, v in tensors.items() if k != name} | ({name: change(tensors[name])} if change else {})
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(LoadError, match=message):
        load_checkpoint(folder)


def test_another_zero_point_is_noticed(tmp_path: Path) -> None:
    oracle = made("Llama")
    folder = as_gptq(tmp_path, oracle)
    given = json.loads((folder / "config.json").read_text())["quantization_config"]
    models.change_config(folder, quantization_config=given | {"format": "gptq_v2"})
    ids = models.tokens((1, 9))
    with pytest.raises(AssertionError, match="of the largest"):
        assert_near(run(load_checkpoint(folder), "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))
    assert np.abs(models.logits_of(oracle, input_ids=ids)).max() > 0.1
