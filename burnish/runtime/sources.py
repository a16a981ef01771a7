"""From a path to a module, and to its tokenizer, by whichever source the path is; plugins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from burnish.frontends.config import LoadError
from burnish.frontends.source import find_source
from burnish.ir.dims import DimError
from burnish.ir.discover import line_in_plugin, load_plugin
from burnish.ir.module import Module
from burnish.ir.signature import SignatureError, make_facts
from burnish.ir.types import InferError
from burnish.ir.weights import ReadError, StoredWeights
from burnish.runtime import package  # noqa: F401  # registers it

if TYPE_CHECKING:
    from burnish.runtime.progress import Progress
    from burnish.runtime.tokenizer import Tokenizer

__all__ = ["kind_of", "load_plugins", "load_source", "local", "no_tokenizer", "tokenizer_of"]


def kind_of(path: Path) -> str:
    """The name of the source that `path` is. Raises LoadError for what is none."""
    return find_source(local(path)).name


def local(path: Path, progress: Progress | None = None) -> Path:
    """Where a source lies: the path itself, or what is fetched of a model that it names (`burnish.frontends.hub`).

    Raises LoadError.
    """
    if path.exists():
        return path
    from burnish.frontends.hub import fetched, name_of

    name = name_of(path)
    return path if name is None else fetched(name, progress)


def load_source(
    path: Path,
    plugins: Sequence[Path] = (),
    task: str = "",
    verify: bool = False,
    progress: Progress | None = None,
) -> Module:
    """The plain module of any source; `task` goes before what it says of itself.

    With `verify`, the digests of weights that have some are compared. Raises LoadError.
    """
    load_plugins(plugins)
    path = local(path, progress)
    try:
        module = find_source(path).load(path)
        if verify and isinstance(module.source, StoredWeights):
            module.source.verify()
    except (ReadError, ArithmeticError, RecursionError, UnicodeError, DimError, InferError) as e:
        raise LoadError(f"{path}: {type(e).__name__}: {e}" if not isinstance(e, ReadError) else str(e)) from e
    except Exception as e:
        if isinstance(e, LoadError) or not (place := line_in_plugin(e)):
            raise
        raise LoadError(f"{path}: {place}: {type(e).__name__}: {e}") from e
    if task:
        try:
            module.facts = make_facts(module.facts.given() | {"task": task})
        except SignatureError as e:
            raise LoadError(str(e)) from None
    return module


def load_plugins(plugins: Sequence[Path]) -> None:
    """Import plugin files, each whole or not at all. Raises LoadError, with what the file raised."""
    if plugins:  # what is ours comes first: a plugin is told of a name that is taken
        from burnish.backends import kernels  # noqa: F401  # registers them
        from burnish.frontends import architectures, containers  # noqa: F401
    for file in plugins:
        try:
            load_plugin(file)
        except Exception as e:
            raise LoadError(f"plugin {file}: {type(e).__name__}: {e}") from e


def tokenizer_of(path: Path) -> Tokenizer | None:
    """The tokenizer that belongs to a source, or None: then the model runs on ids. Raises LoadError."""
    from burnish.runtime.tokenizer import Tokenizer

    path = local(path)
    source = find_source(path)
    text = source.tokenizer(path)
    return None if text is None else Tokenizer(text, f"the tokenizer of {path}", source.chat_template(path))


def no_tokenizer(path: Path) -> str:
    """Why a source has none, and what to do."""
    from burnish.frontends.on_disk import tokenizer_there
    from burnish.frontends.tokenizers.files import why_not

    path = local(path)
    return tokenizer_there(path, why_not(path if path.is_dir() else path.parent))
