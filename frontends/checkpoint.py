"""Hugging Face checkpoints: a folder of `config.json` and files of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from burnish.frontends import architectures, containers
from burnish.frontends.architecture import build_module, find_architecture, usual_classes
from burnish.frontends.config import Config, LoadError, read_object, shown
from burnish.frontends.generation_config import with_generation
from burnish.frontends.heads import Hidden
from burnish.frontends.multimodal import is_multimodal, text_model
from burnish.frontends.on_disk import TENSORFLOW
from burnish.frontends.sentence import Sentence, model_folder, read_sentence, reranker
from burnish.frontends.stored import Tensors, containers_of
from burnish.frontends.weight_files import form_of, read_weights, weights_in
from burnish.ir.graph import Value
from burnish.ir.module import Module
from burnish.ir.types import Type
from burnish.ir.weights import StoredTensor, StoredWeights, WeightSource

__all__ = ["load_checkpoint", "module_of"]

assert architectures and containers  # imported so that they are registered


def load_checkpoint(source: Path) -> Module:
    """The module of a folder, or of a bare file of weights with its `config.json` beside it.

    Raises LoadError.
    """
    whole = source if source.is_dir() else source.parent
    folder, sentence = model_folder(whole), read_sentence(whole)
    config = Config(read_object(folder / "config.json"), str(folder / "config.json"))
    containers_of(config)  # weights in a form that is not read are named before they are looked at
    stored = weights_in(folder) if source.is_dir() else read_weights(source)
    form = form_of(next(iter(stored.values())).path) if stored else None
    if any(name.endswith(":0") for name in stored):
        raise LoadError(f"{source}: has the names of {TENSORFLOW}")
    if sentence is not None:
        stored |= sentence.tensors
    types, aliases = _by_first_name(stored)
    container = form.container if form is not None else ""
    config, about_texts = reranker(whole, config)
    module = module_of(config, types, StoredWeights(stored), folder, sentence, aliases, container)
    module.facts = replace(module.facts, **about_texts)
    if form is not None and not form.uniform:
        _check_told(module, source)
    return module


def module_of(
    config: Config,
    types: Mapping[str, Type],
    source: WeightSource,
    folder: Path | None = None,
    sentence: Sentence | None = None,
    aliases: Mapping[str, str] | None = None,
    container: str = "",
) -> Module:
    """The module of a `config.json` and tensors, however they are stored, under the names that transformers saves.

    A file beside them in `folder` says what ends a text; `sentence` makes an embedding of the base model's states,
    whatever head `config` names; `aliases` are further names of tensors, `container` is what their files store them in.
    Raises LoadError.
    """
    names = config.get("architectures")
    names = usual_classes(config) if names in (None, []) else names
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise LoadError(f"{config.where}: `architectures` must name the model's class, not {shown(names)}")
    name, tensors = names[0], Tensors(types, source, containers_of(config, types, container), aliases=aliases or {})
    if is_multimodal(config):
        name, config, tensors = text_model(name, config, tensors)
    if sentence is not None:
        architecture, head = find_architecture(name, config)
        name = architecture.names[0] + (head if issubclass(head, Hidden) else Hidden).names[0]
    module = build_module(name, config, tensors, sentence)
    module.facts = with_generation(module.facts, folder, config)
    return module


def _by_first_name(stored: Mapping[str, StoredTensor]) -> tuple[dict[str, Type], dict[str, str]]:
    """The type of each range of bytes by the first of its names, and that one by its further names."""
    first: dict[StoredTensor, str] = {}
    names = {n: first.setdefault(t, n) if t.type.elements else n for n, t in stored.items()}
    types = {n: t.type for n, t in stored.items() if names[n] == n}
    return types, {n: same for n, same in names.items() if same != n}


def _check_told(module: Module, source: Path) -> None:
    """Raise LoadError where nothing tells whether matrices of products lie [outputs, inputs]: they are all square."""
    nodes = [node for graph in module.every_graph for node in graph]
    tables = {v for node in nodes if node.op.name == "embedding" for v in node.operands}
    read = {node["w"] for node in nodes if node.op.name == "linear"} - tables
    plain = [v.shape for v in read if isinstance(v, Value) and v.node is not None and v.node.is_leaf]
    if plain and all(rows == columns for rows, columns in plain):
        what = "all its matrices are square, and nothing says whether they are [outputs, inputs] or the other way"
        raise LoadError(f"{source}: {what}: write them [outputs, inputs] into a model.safetensors")
