"""From a path to a module: what kind of file or folder it is, and which frontend reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from burnish.frontends.architecture import LoadError
from burnish.ir.discover import load_plugin
from burnish.ir.module import Module
from burnish.ir.signature import SignatureError, make_facts

__all__ = ["kind_of", "load_plugins", "load_source", "tokenizer_of"]

_LATER = {".gguf": "GGUF", ".pt2": "torch.export", ".bin": "PyTorch pickle", ".pth": "PyTorch pickle"}


def kind_of(source: Path) -> str:
    """`package`, `checkpoint`, `onnx` or `text`. Raises LoadError for what is none of these."""
    if source.is_dir():
        if (source / "manifest.json").exists():
            return "package"
        if (source / "config.json").exists():
            return "checkpoint"
        raise LoadError(f"{source}: is neither a package (no manifest.json) nor a checkpoint (no config.json)")
    if not source.exists():
        raise LoadError(f"{source}: there is no such file or folder")
    match source.suffix.lower():
        case ".safetensors":
            return "checkpoint"
        case ".onnx":
            return "onnx"
        case ".graph" | ".txt":
            return "text"
    if source.suffix.lower() in _LATER:
        raise LoadError(f"{source}: {_LATER[source.suffix.lower()]} files cannot be read yet")
    raise LoadError(f"{source}: cannot tell what this is; known are folders, .safetensors, .onnx and .graph files")


def load_source(source: Path, plugins: Sequence[Path] = (), task: str = "") -> Module:
    """The plain module of any supported source; `task` goes before what it says of itself. Raises LoadError."""
    load_plugins(plugins)
    module = _read(source)
    if task:
        try:
            module.facts = make_facts(module.facts.given() | {"task": task})
        except SignatureError as e:
            raise LoadError(str(e)) from None
    return module


def _read(source: Path) -> Module:
    match kind_of(source):
        case "package":
            from burnish.runtime.package import read_package

            return read_package(source)
        case "checkpoint":
            from burnish.frontends.checkpoint import load_checkpoint

            return load_checkpoint(source)
        case "onnx":
            from burnish.frontends.onnx_file import load_onnx

            return load_onnx(source)
        case _:
            from burnish.ir.parser import TextError, parse

            try:
                return _with_sources(parse(source.read_text("utf-8")))
            except (TextError, OSError, UnicodeDecodeError) as e:
                raise LoadError(f"{source}: {e}") from None


def _with_sources(module: Module) -> Module:
    """The module of a text, in which statements without a source are known by their number."""
    nodes = (node for graph in module.every_graph for node in graph if not node.is_leaf)
    for i, node in enumerate(nodes):
        if not node.origin.sources:
            node.origin = replace(node.origin, sources=(f"text:{i}",))
    return module


def load_plugins(plugins: Sequence[Path]) -> None:
    """Import plugin files. Raises LoadError, with what the file raised."""
    for file in plugins:
        try:
            load_plugin(file)
        except Exception as e:
            raise LoadError(f"plugin {file}: {type(e).__name__}: {e}") from e


def tokenizer_of(source: Path) -> Path | None:
    """The `tokenizer.json` that belongs to a source, or None: then the model runs on ids."""
    folder = source if source.is_dir() else source.parent
    file = folder / "tokenizer.json"
    return file if file.exists() else None
