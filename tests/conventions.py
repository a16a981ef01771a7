"""The weights of a checkpoint of transformers, written as other frameworks store them: independent writers."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from burnish.ir.module import Module
from burnish.ir.run import static_operands, static_values

Parameters = dict[str, list[tuple[str, bytes]]]
Arrays = dict[str, np.ndarray]


def parameters_of(module: Module) -> Parameters:
    """By graph, what it reads that weights determine: the type and the bytes of each, in the order of its reading."""
    found: Parameters = {}
    for name, graph in module.graphs.items():
        wanted = static_operands(graph)
        arrays = {v: np.ascontiguousarray(a).tobytes() for v, a in static_values(wanted)}
        found[name] = [(str(v.type), arrays[v]) for v in wanted]
    return found


def arrays_of(model: Any) -> Arrays:
    """Every parameter of a model of transformers, tied ones under each of their names."""
    return {n: t.detach().numpy() for n, t in model.state_dict().items()}


def beside(model: Any, folder: Path) -> Path:
    """What stands in a folder beside the weights: the config."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(model.config.to_json_string()) | {"architectures": [type(model).__name__]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


# -------------------------------------------------------------------------------------------------------------- msgpack


def msgpack(value: Any) -> bytes:
    """As Flax writes it: an array is an extension of a shape, a type and bytes."""
    match value:
        case dict():
            return b"\xdf" + struct.pack(">I", len(value)) + b"".join(msgpack(k) + msgpack(v) for k, v in value.items())
        case str() if len(value.encode()) < 32:
            return bytes([0xA0 | len(value.encode())]) + value.encode()
        case str():
            return b"\xd9" + bytes([len(value.encode())]) + value.encode()
        case bytes():
            return b"\xc6" + struct.pack(">I", len(value)) + value
        case int() if 0 <= value < 128:
            return bytes([value])
        case int():
            return b"\xce" + struct.pack(">I", value)
        case tuple():
            return bytes([0x90 | len(value)]) + b"".join(map(msgpack, value))
        case np.ndarray():
            inside = msgpack((tuple(value.shape), str(value.dtype), np.ascontiguousarray(value).tobytes()))
            return b"\xc9" + struct.pack(">Ib", len(inside), 1) + inside
    raise TypeError(type(value))


def nested(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Names with dots as dicts in dicts."""
    found: dict[str, Any] = {}
    for name, array in arrays.items():
        *path, last = name.split(".")
        at = found
        for key in path:
            at = at.setdefault(key, {})
        at[last] = array
    return found


def flax_names(model: Any) -> Arrays:
    """What Flax's classes of transformers call the parameters, and how they lie there."""
    found: Arrays = {}
    kinds = dict(model.named_modules())
    tied = set(model.all_tied_weights_keys)
    for name, array in arrays_of(model).items():
        if name in tied:
            continue
        module, _, leaf = name.rpartition(".")
        kind = type(kinds[module]).__name__
        if leaf != "weight":
            found[name] = array
        elif kind in ("Linear", "Conv1D"):
            found[f"{module}.kernel"] = array.T
        elif kind in ("Embedding", "LayerNorm"):
            found[f"{module}.{'embedding' if kind == 'Embedding' else 'scale'}"] = array
        else:
            found[name] = array  # RMS norms are of transformers' own
    return found


def scanned(arrays: Arrays, layers: str, axis: int = 0) -> Arrays:
    """The parameters of blocks called `layers`.N as one of all, stacked."""
    stacks: dict[str, list[np.ndarray]] = {}
    found: Arrays = {}
    for name, array in arrays.items():
        before, at, behind = name.partition(f"{layers}.")
        number, _, rest = behind.partition(".")
        if at and number.isdigit():
            stacks.setdefault(f"{before}{layers}.{rest}", []).append(array)
        else:
            found[name] = array
    return found | {n: np.stack(a, axis=min(axis, a[0].ndim)) for n, a in stacks.items()}


def as_flax(model: Any, folder: Path, change: Callable[[Arrays], Arrays] = lambda a: a, wrapped: bool = False) -> Path:
    """flax_model.msgpack"""
    saved = nested(change(flax_names(model)))
    (beside(model, folder) / "flax_model.msgpack").write_bytes(msgpack({"params": saved} if wrapped else saved))
    return folder


def as_flax_safetensors(model: Any, folder: Path) -> Path:
    """The same names, joined by dots."""
    arrays = {n: np.ascontiguousarray(a) for n, a in flax_names(model).items()}
    save_file(arrays, beside(model, folder) / "model.safetensors", metadata={"format": "flax"})
    return folder


# ----------------------------------------------------------------------------------------------------- Meta and Mistral

_META = {
    **{"model.embed_tokens": "tok_embeddings", "model.norm": "norm", "lm_head": "output", "model.layers": "layers"},
    **{"self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv"},
    **{"self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3"},
    **{"mlp.down_proj": "feed_forward.w2", "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm"},
    **{".mlp.": ".feed_forward."},
}


def in_pairs(rows: np.ndarray, heads: int) -> np.ndarray:
    """The rows of queries or keys, rotated in pairs (2j, 2j + 1) where they were in pairs (j, j + R / 2)."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def each_expert(arrays: Arrays) -> Arrays:
    """Experts that are stacked, gates over ups, as matrices of their own."""
    found: Arrays = {}
    for name, array in arrays.items():
        base, _, leaf = name.rpartition(".")
        if leaf == "gate_up_proj":
            for i, both in enumerate(array):
                gate, up = np.split(both, 2)
                found |= {f"{base}.{i}.w1.weight": gate, f"{base}.{i}.w3.weight": up}
        elif leaf == "down_proj" and base.endswith("experts"):
            found |= {f"{base}.{i}.w2.weight": down for i, down in enumerate(array)}
        else:
            found[name] = array
    return found


def meta_names(model: Any) -> Arrays:
    """What Meta and Mistral call the parameters of Llama, Mistral and Mixtral."""
    found: Arrays = {}
    for name, array in each_expert(arrays_of(model)).items():
        for theirs, metas in _META.items():
            name = name.replace(theirs, metas)
        if name.endswith(("wq.weight", "wk.weight")):
            c = model.config
            array = in_pairs(array, c.num_attention_heads if "wq" in name else c.num_key_value_heads)
        found[name] = array
    return found


def as_consolidated(
    model: Any, folder: Path, params: Mapping[str, Any], parts: int = 1, kind: str = "pth", by_rows: bool = False
) -> Path:
    """params.json and consolidated.*, cut into parts along the axis that Meta cuts; `by_rows`: of Llama 3."""
    c = model.config
    said = {"dim": c.hidden_size, "n_layers": c.num_hidden_layers, "n_heads": c.num_attention_heads}
    said |= {"n_kv_heads": c.num_key_value_heads, "vocab_size": c.vocab_size, "norm_eps": c.rms_norm_eps}
    said = {k: v for k, v in {**said, **params}.items() if v is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.json").write_text(json.dumps(said))
    for i in range(parts):
        piece: Arrays = {}
        for name, array in meta_names(model).items():
            inputs = name.endswith(("wo.weight", "w2.weight")) or ("tok_embeddings" in name and not by_rows)
            whole = array.ndim == 1
            piece[name] = array if whole else np.ascontiguousarray(np.split(array, parts, axis=int(inputs))[i])
        if kind == "pth":
            tensors = {n: torch.from_numpy(a) for n, a in piece.items()}
            torch.save({**tensors, "rope.freqs": torch.ones(3)}, folder / f"consolidated.{i:02}.pth")
        else:
            save_file(piece, folder / "consolidated.safetensors")
    return folder


# ----------------------------------------------------------------------------------------------------- NumPy and Paddle


def as_npz(model: Any, folder: Path, arrays: Mapping[str, np.ndarray] | None = None, compressed: bool = False) -> Path:
    """weights.npz, under transformers' names or those that are given."""
    write = np.savez_compressed if compressed else np.savez
    if arrays is None:
        arrays = {n: a for n, a in arrays_of(model).items() if n not in model.all_tied_weights_keys}
    write(beside(model, folder) / "weights.npz", **arrays)
    return folder


_PADDLE = {
    **{"encoder.layer.": "encoder.layers.", "attention.self.query": "self_attn.q_proj"},
    **{"attention.self.key": "self_attn.k_proj", "attention.self.value": "self_attn.v_proj"},
    **{"attention.output.dense": "self_attn.out_proj", "attention.output.LayerNorm": "norm1"},
    **{"intermediate.dense": "linear1", "output.dense": "linear2", "output.LayerNorm": "norm2"},
    "embeddings.LayerNorm": "embeddings.layer_norm",
}


def paddle_names(model: Any) -> Arrays:
    """What PaddleNLP calls the parameters of BERT, Llama and T5, and how they lie there."""
    found: Arrays = {}
    kinds = dict(model.named_modules())
    tied, base = (
        set(model.all_tied_weights_keys),
        type(model).__name__.partition("For")[0].removesuffix("Model").lower(),
    )
    for name, array in arrays_of(model).items():
        if name in tied:
            continue
        module, _, leaf = name.rpartition(".")
        if leaf == "weight" and type(kinds[module]).__name__ == "Linear":
            array = np.ascontiguousarray(array.T)
        if base == "bert":
            for theirs, paddles in _PADDLE.items():
                name = name.replace(theirs, paddles)
        found[name if name.startswith("lm_head") else f"{base}.{name.removeprefix('model.')}"] = array
    return found


def as_paddle(model: Any, folder: Path, protocol: int = 4, named: bool = False) -> Path:
    """model_state.pdparams; `named`: each beside the name that Paddle gave it, and a table of these."""
    arrays: dict[str, Any] = dict(paddle_names(model))
    if named:
        arrays = {n: (f"linear_{i}.w_0", a) for i, (n, a) in enumerate(arrays.items())}
        arrays["StructuredToParameterName@@"] = {n: "x" for n in arrays}
    with (beside(model, folder) / "model_state.pdparams").open("wb") as f:
        pickle.dump(arrays, f, protocol)
    return folder
