"""Checkpoints as others pack them: GGUF, and GPTQ's three tensors. What is packed is rounded in the oracle too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file

from burnish.frontends.gguf_names import gguf_names
from tests import models

Types = gguf.GGMLQuantizationType


def permuted(x: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the order of GGUF's llama: the two of each rotated pair side by side."""
    return x.reshape(heads, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def made_up(kind: Any, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random blocks with finite scales: gguf-py writes no K-quants."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (*shape[:-1], shape[-1] // block, size), dtype=np.uint8)
    scales = {"Q4_K": (0, 2), "Q6_K": (208,)}[kind.name]
    for at in scales:
        raw[..., at : at + 2] = rng.uniform(1e-4, 2e-4, (*raw.shape[:-1], 1)).astype("f2").view(np.uint8)
    return raw.reshape(*shape[:-1], -1)


def as_gguf(file: Path, oracle: Any, kinds: Mapping[str, str], arch: str = "llama", **more: Any) -> Path:
    """The oracle as a GGUF file, its tensors of the types that the ends of their names ask for; it is rounded too."""
    c, rng = oracle.config, np.random.default_rng(0)
    w = gguf.GGUFWriter(file, arch)
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_rope_freq_base(c.rope_parameters["rope_theta"])
    if getattr(c, "head_dim", None):
        w.add_key_length(c.head_dim)
        w.add_value_length(c.head_dim)
    for name, tensor in oracle.state_dict().items():
        x = tensor.numpy().astype("f4")
        kind = Types[next(t for end, t in kinds.items() if end in name)] if x.ndim > 1 else Types.F32
        stored = made_up(kind, x.shape, rng) if kind.name.endswith("_K") else gguf.quants.quantize(x, kind)
        with torch.no_grad():
            tensor.copy_(torch.tensor(gguf.quants.dequantize(stored, kind)).reshape(tensor.shape))
        if arch == "llama":
            for part, heads in (("q_proj", c.num_attention_heads), ("k_proj", c.num_key_value_heads)):
                stored = permuted(stored, heads) if part in name else stored
        w.add_tensor(gguf_names(name)[-1], stored, raw_dtype=kind)
    for name, array in more.items():
        w.add_tensor(name, array)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return file


def as_gptq(
    folder: Path, oracle: Any, ends: str | tuple[str, ...] = "_proj", transposed: bool = False, **settings: Any
) -> Path:
    """The oracle as GPTQ stores it, 4 bits in groups of 128: what ends so as `qweight`, `qzeros`, `scales`, `g_idx`.

    `transposed` matrices are [inputs, outputs] in the oracle; in the file they are as all others.
    """
    models.saved_in_full(oracle, folder)
    config = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": False} | settings
    models.change_config(folder, quantization_config=config)
    less = 0 if config.get("checkpoint_format") == "gptq_v2" else 1
    tensors: dict[str, np.ndarray] = {}
    for name, tensor in oracle.state_dict().items():
        x, module = tensor.numpy().astype("f4"), name.removesuffix(".weight")
        if not module.endswith(ends) or x.ndim != 2:
            tensors[name] = x
            continue
        x = x.T if transposed else x
        outputs, inputs = x.shape
        groups = x.reshape(outputs, inputs // 128, 128)
        low, high = np.minimum(groups.min(-1), 0), np.maximum(groups.max(-1), 0)
        scale = ((high - low) / 15).astype("f2")
        zero = np.clip(np.rint(-low / scale.astype("f4")), 1, 15).astype("u4")
        code = np.clip(np.rint(groups / scale.astype("f4")[..., None]) + zero[..., None], 0, 15).astype("u4")
        back = (code.astype("f4") - zero.astype("f4")[..., None]) * scale.astype("f4")[..., None]
        with torch.no_grad():
            back = back.reshape(x.shape)
            tensor.copy_(torch.tensor(back.T if transposed else back))
        shifts = np.arange(0, 32, 4, dtype="u4")
        words = code.reshape(outputs, inputs).T.reshape(inputs // 8, 8, outputs) << shifts[:, None]
        zeros = (zero - less).T.reshape(inputs // 128, outputs // 8, 8) << shifts
        tensors[f"{module}.qweight"] = words.sum(1, dtype="u4").view("i4")
        tensors[f"{module}.qzeros"] = zeros.sum(-1, dtype="u4").view("i4")
        tensors[f"{module}.scales"] = np.ascontiguousarray(scale.T)
        tensors[f"{module}.g_idx"] = (np.arange(inputs) // 128).astype("i4")
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "model.safetensors")
    return folder
