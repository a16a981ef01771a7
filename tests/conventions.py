"""The weights of a checkpoint of transformers, written as other frameworks store them: independent writers."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
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
