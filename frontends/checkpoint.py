"""Hugging Face checkpoints: a folder of `config.json` and safetensors files, single or sharded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from burnish.frontends import architectures, containers
from burnish.frontends.architecture import build_module, find_architecture
from burnish.frontends.config import Config, LoadError, read_object, shown
from burnish.frontends.generation_config import with_generation
from burnish.frontends.heads import Hidden
from burnish.frontends.on_disk import listed, other_case, unreadable
from burnish.frontends.safetensors_file import read_header
from burnish.frontends.sentence import Sentence, model_folder, read_sentence, reranker
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
    whole = source if source.is_dir() else source.parent
    folder, sentence = model_folder(whole), read_sentence(whole)
    config = Config(read_object(folder / "config.json"), str(folder / "config.json"))
    containers_of(config)  # weights in a form that is not read are named before they are looked at
    if not source.is_dir() and re.search(r"-\d{5}-of-\d{5}\.", source.name):
        raise LoadError(f"{source}: is one of several files of a model: give its folder, {folder}")
    stored = _tensors(folder) if source.is_dir() else read_header(source)[0]
    if sentence is not None:
        stored |= sentence.tensors
    types = {n: t.type for n, t in stored.items()}
    config, about_texts = reranker(whole, config)
    module = module_of(config, types, StoredWeights(stored), folder, sentence)
    module.facts = replace(module.facts, **about_texts)
    return module


def module_of(
    config: Config,
    types: Mapping[str, Type],
    source: WeightSource,
    folder: Path | None = None,
    sentence: Sentence | None = None,
) -> Module:
    """The module of a `config.json` and tensors, however they are stored, under the names that transformers saves.

    A file beside them in `folder` says what ends a text; `sentence` makes an embedding of the base model's states,
    whatever head `config` names. Raises LoadError.
    """
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise LoadError(f"{config.where}: `architectures` must name the model's class, not {shown(names)}")
    name, tensors = names[0], Tensors(types, source, containers_of(config))
    if config.has("text_config"):
        name, config, tensors = _text_model(name, config, tensors)
    if sentence is not None:
        architecture, head = find_architecture(name, config)
        name = architecture.names[0] + (head if issubclass(head, Hidden) else Hidden).names[0]
    module = build_module(name, config, tensors, sentence)
    module.facts = with_generation(module.facts, folder, config)
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


def _tensors(folder: Path) -> dict[str, StoredTensor]:
    """Those of the one file or, where there is no such, of the shards that the index names, as transformers has it."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.exists():
        return read_header(single)[0]
    if not index.exists():
        if single.is_symlink():
            raise LoadError(f"{single}: is a link to a file that is not there, {os.readlink(single)}; fetch it again")
        near = other_case(single) or other_case(index)
        what = f"holds {near}, in other letters than {single.name}: rename it" if near else unreadable(folder)
        raise LoadError(f"{folder}: {what or f'holds neither {single.name} nor {index.name}'}")
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(f, str) for f in shards.values()):
        raise LoadError(f"{index}: needs a weight_map from tensor names to files")
    files = list(dict.fromkeys(shards.values()))
    for file in files:
        # A name, not a path: a file may be a link into a cache, but its name never leads out of the folder.
        if Path(file).name != file or file in ("", ".", "..") or "\0" in file:
            raise LoadError(f"{index}: names the file {shown(file)}, which is not one of the model's folder")
    if gone := [f for f in files if not (folder / f).exists()]:
        raise LoadError(f"{index}: {len(gone)} of its {len(files)} files are not there: {listed(gone)}; fetch the rest")
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        found = read_header(folder / file)[0]
        if twice := [n for n in found if n in tensors]:
            raise LoadError(f"{folder / file}: tensor {shown(twice[0])} is in another shard too")
        tensors |= found
    if lost := [n for n, file in shards.items() if n not in tensors or tensors[n].path != folder / file]:
        raise LoadError(f"{index}: tensor {shown(lost[0])} is not in {shards[lost[0]]}")
    return tensors
