"""Hugging Face checkpoints: a folder of `config.json` and safetensors files, single or sharded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from burnish.frontends import architectures, containers
from burnish.frontends.architecture import build_module, find_architecture
from burnish.frontends.config import Config, LoadError, read_object, shown
from burnish.frontends.generation_config import advised_sampling
from burnish.frontends.pooling import read_pooling
from burnish.frontends.safetensors_file import read_header
from burnish.frontends.stored import Tensors, containers_of
from burnish.ir.module import Module
from burnish.ir.types import Type
from burnish.ir.weights import StoredTensor, StoredWeights, WeightSource

__all__ = ["load_checkpoint", "module_of"]

assert architectures and containers  # imported so that they are registered


def load_checkpoint(source: Path) -> Module:
    """The module of a folder, or of a bare `.safetensors` file with its `config.json` beside it.

    Raises LoadError.
    """
    folder = source if source.is_dir() else source.parent
    config = Config(read_object(folder / "config.json"), str(folder / "config.json"))
    stored = _tensors(folder) if source.is_dir() else read_header(source)[0]
    return module_of(config, {n: t.type for n, t in stored.items()}, StoredWeights(stored), folder)


def module_of(config: Config, types: Mapping[str, Type], source: WeightSource, folder: Path | None = None) -> Module:
    """The module of a `config.json` and tensors, however they are stored, under the names that transformers saves.

    What lies beside them in `folder` says how to pool, and what ends a text. Raises LoadError.
    """
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise LoadError(f"{config.where}: `architectures` must name the model's class, not {shown(names)}")
    name, tensors = names[0], Tensors(types, source, containers_of(config))
    if config.has("text_config"):
        name, config, tensors = _text_model(name, config, tensors)
    module = build_module(name, config, tensors, read_pooling(folder) if folder is not None else None)
    if ends := _end_tokens(folder, config):
        module.facts = replace(module.facts, eos=ends)
    if folder is not None and (advice := advised_sampling(folder)):
        module.facts = replace(module.facts, sampling=advice)
    return module


def _text_model(name: str, config: Config, tensors: Tensors) -> tuple[str, Config, Tensors]:
    """The text model inside of one that sees or hears too: its class, its config and its tensors."""
    text = config.section("text_config")
    kind = text.get("model_type")
    if not isinstance(kind, str):
        raise LoadError(f"{text.where}: needs a model_type, for the text model of {name}")
    architecture, head = find_architecture(f"{kind.removesuffix('_text')}ForCausalLM", text)
    around = {"eos_token_id": v} if (v := config.get("eos_token_id")) is not None else {}
    tied = {"tie_word_embeddings": True} if config.flag("tie_word_embeddings", False) else {}  # either may say it
    prefixes = [p for p in _TEXT_PREFIXES if any(n.startswith(p) for n in tensors.types)]
    if not prefixes:
        raise LoadError(f"{config.where}: has a text_config, but no tensor begins with {', '.join(_TEXT_PREFIXES)}")
    tensors = replace(tensors, prefixes=(*prefixes, ""))
    return architecture.names[0] + head.names[0], Config({**around, **text.values, **tied}, text.where), tensors


#: what the tensors of a text model begin with in the checkpoint of a larger one
_TEXT_PREFIXES = ("language_model.", "model.language_model.", "text_model.", "model.text_model.")


def _end_tokens(folder: Path | None, config: Config) -> tuple[int, ...]:
    """The tokens that end a text: what `generation_config.json` says goes before what `config.json` says."""
    file = folder / "generation_config.json" if folder is not None else None
    own = Config(read_object(file), str(file)) if file is not None and file.exists() else config
    chosen = own if own.has("eos_token_id") else config
    ids = chosen.get("eos_token_id")
    if ids is None:
        return ()
    many = ids if isinstance(ids, list) else [ids]
    return tuple(Config({"eos_token_id": i}, chosen.where).integer("eos_token_id", least=0) for i in many)


def _tensors(folder: Path) -> dict[str, StoredTensor]:
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if not index.exists():
        if not single.exists():
            raise LoadError(f"{folder}: holds neither model.safetensors nor model.safetensors.index.json")
        return read_header(single)[0]
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(f, str) for f in shards.values()):
        raise LoadError(f"{index}: needs a weight_map from tensor names to files")
    tensors: dict[str, StoredTensor] = {}
    for file in dict.fromkeys(shards.values()):
        # A name, not a path: a file may be a link into a cache, but its name never leads out of the folder.
        if Path(file).name != file or file in ("", ".", "..") or "\0" in file:
            raise LoadError(f"{index}: names the file {shown(file)}, which is not one of the model's folder")
        found = read_header(folder / file)[0]
        if twice := [n for n in found if n in tensors]:
            raise LoadError(f"{folder / file}: tensor {shown(twice[0])} is in another shard too")
        tensors |= found
    if lost := [n for n, file in shards.items() if n not in tensors or tensors[n].path != folder / file]:
        raise LoadError(f"{index}: tensor {shown(lost[0])} is not in {shards[lost[0]]}")
    return tensors
