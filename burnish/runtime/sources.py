"""From a path to a module, and to its tokenizer, by whichever source the path is; plugins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from burnish.backends import kernels
from burnish.frontends import architectures, containers
from burnish.frontends.config import LoadError
from burnish.frontends.source import find_source
from burnish.ir.discover import load_plugin
from burnish.ir.module import Module
from burnish.ir.signature import SignatureError, make_facts
from burnish.runtime import package
from burnish.runtime.tokenizer import Tokenizer

__all__ = ["kind_of", "load_plugins", "load_source", "tokenizer_of"]

# Imported so that what is ours is registered: before any plugin, which is told of a name that is taken.
assert architectures and containers and kernels and package


def kind_of(path: Path) -> str:
    """The name of the source that `path` is. Raises LoadError for what is none."""
    return find_source(path).name


def load_source(path: Path, plugins: Sequence[Path] = (), task: str = "") -> Module:
    """The plain module of any source; `task` goes before what it says of itself. Raises LoadError."""
    load_plugins(plugins)
    module = find_source(path).load(path)
    if task:
        try:
            module.facts = make_facts(module.facts.given() | {"task": task})
        except SignatureError as e:
            raise LoadError(str(e)) from None
    return module


def load_plugins(plugins: Sequence[Path]) -> None:
    """Import plugin files, each whole or not at all. Raises LoadError, with what the file raised."""
    for file in plugins:
        try:
            load_plugin(file)
        except Exception as e:
            raise LoadError(f"plugin {file}: {type(e).__name__}: {e}") from e


def tokenizer_of(path: Path) -> Tokenizer | None:
    """The tokenizer that belongs to a source, or None: then the model runs on ids. Raises LoadError."""
    text = find_source(path).tokenizer(path)
    return None if text is None else Tokenizer(text, f"the tokenizer of {path}")
