"""Hugging Face checkpoints: a folder of `config.json` and safetensors files, single or sharded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from burnish.frontends import architectures
from burnish.frontends.architecture import Config, LoadError, build_module
from burnish.frontends.safetensors_file import read_header
from burnish.ir.graph import Module
from burnish.ir.weights import StoredTensor, StoredWeights

__all__ = ["load_checkpoint", "read_json"]

assert architectures  # imported so that they are registered


def read_json(path: Path, most: int = 64 << 20) -> dict[str, Any]:
    """A JSON object of a model's folder. Raises LoadError."""
    try:
        if path.stat().st_size > most:
            raise LoadError(f"{path}: {path.stat().st_size} bytes are too many for such a file")
        value = json.loads(path.read_text("utf-8"))
    except OSError as e:
        raise LoadError(f"{path}: {e.strerror or e}") from None
    except (ValueError, RecursionError) as e:
        raise LoadError(f"{path}: is not JSON: {str(e)[:100]}") from None
    if not isinstance(value, dict):
        raise LoadError(f"{path}: is not a JSON object")
    return value


def load_checkpoint(source: Path) -> Module:
    """The module of a folder, or of a bare `.safetensors` file with its `config.json` beside it.

    Raises LoadError.
    """
    folder = source if source.is_dir() else source.parent
    config = Config(read_json(folder / "config.json"), str(folder / "config.json"))
    names = config.values.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise LoadError(f"{config.where}: `architectures` must name the model's class")
    tensors = _tensors(folder) if source.is_dir() else read_header(source)[0]
    weights = StoredWeights(tensors)
    module = build_module(names[0], config, {name: t.type for name, t in tensors.items()}, weights)
    module.attributes |= _generation(folder, config)
    return module


def _generation(folder: Path, config: Config) -> dict[str, Any]:
    """What generation needs to know: `eos`, the tokens that end a text, and `decoder_start`, the first of a decoder."""
    file = folder / "generation_config.json"
    own = Config(read_json(file), str(file)) if file.exists() else config
    found: dict[str, Any] = {}
    for c in (config, own):
        ends = c.values.get("eos_token_id")
        if ends is not None:
            ends = ends if isinstance(ends, list) else [ends]
            found["eos"] = tuple(Config({"eos_token_id": e}, c.where).integer("eos_token_id", least=0) for e in ends)
        if c.has("decoder_start_token_id"):
            found["decoder_start"] = c.integer("decoder_start_token_id", least=0)
    return found


def _tensors(folder: Path) -> dict[str, StoredTensor]:
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if not index.exists():
        if not single.exists():
            raise LoadError(f"{folder}: holds neither model.safetensors nor model.safetensors.index.json")
        return read_header(single)[0]
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(f, str) for f in shards.values()):
        raise LoadError(f"{index}: needs a weight_map from tensor names to files")
    tensors: dict[str, StoredTensor] = {}
    for file in dict.fromkeys(shards.values()):
        # A name, not a path: a file may be a link into a cache, but its name never leads out of the folder.
        if Path(file).name != file or file in ("", ".", ".."):
            raise LoadError(f"{index}: names the file {file!r}, which is outside of the model's folder")
        found = read_header(folder / file)[0]
        if twice := [n for n in found if n in tensors]:
            raise LoadError(f"{folder / file}: tensor {twice[0]!r} is in another shard too")
        tensors |= found
    if lost := [n for n in shards if n not in tensors]:
        raise LoadError(f"{index}: tensor {lost[0]!r} is not in {shards[lost[0]]}")
    return tensors
