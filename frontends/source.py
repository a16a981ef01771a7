"""What a path can be: the table of sources. Adding one is one class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from burnish.frontends.config import LoadError, shown
from burnish.frontends.on_disk import begins_as, not_there, unreadable
from burnish.ir.module import Module
from burnish.ir.registry import Registry

if TYPE_CHECKING:
    from burnish.frontends.tokenizers.chat_template import ChatTemplate

__all__ = ["LARGEST_GRAPH", "SOURCES", "Source", "find_source"]

LARGEST_GRAPH = 256 << 20  # bytes of text
_LARGEST_TOKENIZER = 256 << 20  # bytes


class Source:
    """A kind of file or folder that a model can come from.

    A subclass that gives a `name` is registered by being defined. It imports what reads its files in `load`.
    """

    #: what `inspect` calls it
    name: ClassVar[str]
    #: what it looks like, for those who gave something else: "a .onnx file"
    form: ClassVar[str]

    def __init_subclass__(cls, replace: bool = False) -> None:
        if "name" in cls.__dict__:
            SOURCES.add(cls.name, cls(), replace)

    def matches(self, path: Path) -> bool:
        """Whether what is at `path`, a file or a folder that is there, looks like one; `load` finds out."""
        raise NotImplementedError

    def load(self, path: Path) -> Module:
        """The plain module. Raises LoadError."""
        raise NotImplementedError

    def tokenizer(self, path: Path) -> str | None:
        """The text of the `tokenizer.json` that belongs to it: the files beside it, unless a source knows better.

        None: there are none, and the model runs on ids. Raises LoadError.
        """
        from burnish.frontends.tokenizers.files import tokenizer_of_files

        file = (path if path.is_dir() else path.parent) / "tokenizer.json"
        return read_tokenizer(file) if file.exists() else tokenizer_of_files(file.parent)


    def chat_template(self, path: Path) -> ChatTemplate | None:
        """What makes one text of a conversation: that of the files beside it, unless a source knows better.

        Raises LoadError.
        """
        from burnish.frontends.tokenizers.chat_template import read_chat_template

        return read_chat_template(path if path.is_dir() else path.parent)


SOURCES: Registry[Source] = Registry("source")


def find_source(path: Path) -> Source:
    """The source that `path` looks like; the one that was defined last is asked first. Raises LoadError."""
    if not path.exists():
        raise LoadError(f"{path}: {not_there(path)}")
    for source in reversed(list(SOURCES.values())):
        if source.matches(path):
            return source
    if what := unreadable(path):
        raise LoadError(f"{path}: {what}")
    known = ", ".join(f"{s.form} ({name})" for name, s in SOURCES.items())
    raise LoadError(f"{path}: cannot tell what this is; known are {known}")


def read_tokenizer(file: Path) -> str:
    """The text of a `tokenizer.json`, to the byte unless what lies beside it says otherwise. Raises LoadError."""
    from burnish.frontends.tokenizers.settings import with_settings

    try:
        if file.stat().st_size > _LARGEST_TOKENIZER:
            raise LoadError(f"{file}: {file.stat().st_size} bytes are too many for a tokenizer")
        raw = file.read_bytes()
        if known := begins_as(raw[:64]):
            raise LoadError(f"{file}: {known}")
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise LoadError(f"{file}: {e}") from None
    return with_settings(text, file)


class Text(Source):
    """Graph text, as `burnish opt` prints it."""

    name = "text"
    form = "a .graph file"

    def matches(self, path: Path) -> bool:
        return path.is_file() and path.suffix.lower() in (".graph", ".txt")

    def load(self, path: Path) -> Module:
        """Statements without a source are known by their number."""
        from burnish.ir.parser import TextError, parse
        from burnish.ir.verify import VerifyError, verify

        try:
            if path.stat().st_size > LARGEST_GRAPH:
                raise LoadError(f"{path}: {path.stat().st_size} bytes are too many for a graph")
            module = parse(path.read_text("utf-8"))
            verify(module)
        except (TextError, OSError, UnicodeDecodeError) as e:
            raise LoadError(f"{path}: {e}") from e
        except VerifyError as e:
            raise LoadError(f"{path}: {e.line}") from e
        for name, entry in module.weights.items():
            if entry.type.symbols:
                raise LoadError(f"{path}: weight {shown(name)} is {entry.type}: its sizes must be numbers")
        nodes = (node for graph in module.every_graph for node in graph if not node.is_leaf)
        for i, node in enumerate(nodes):
            if not node.origin.sources:
                node.origin = replace(node.origin, sources=(f"text:{i}",))
        return module


class Onnx(Source):
    """An export."""

    name = "onnx"
    form = "an .onnx file"

    def matches(self, path: Path) -> bool:
        return path.is_file() and path.suffix.lower() == ".onnx"

    def load(self, path: Path) -> Module:
        from burnish.frontends.onnx_file import load_onnx

        return load_onnx(path)


class Checkpoint(Source):
    """A Hugging Face folder, or one of its files."""

    name = "checkpoint"
    form = "a folder with a config.json, or a file of weights in one"

    def matches(self, path: Path) -> bool:
        from burnish.frontends.weight_files import is_weights

        there = (path / name for name in ("config.json", "modules.json"))
        return any(p.exists() for p in there) or is_weights(path)

    def load(self, path: Path) -> Module:
        from burnish.frontends.checkpoint import load_checkpoint

        return load_checkpoint(path)

    def tokenizer(self, path: Path) -> str | None:
        """That of the model, which may lie in a folder of its own, with what sentence-transformers adds to it."""
        from burnish.frontends.sentence import lowered, model_folder

        folder = model_folder(path if path.is_dir() else path.parent)
        text = super().tokenizer(folder)
        return None if text is None else lowered(folder, text)

    def chat_template(self, path: Path) -> ChatTemplate | None:
        """That of the model's own folder."""
        from burnish.frontends.sentence import model_folder

        return super().chat_template(model_folder(path if path.is_dir() else path.parent))


class Consolidated(Source):
    """Meta's and Mistral's own files, where none of transformers' lie beside them; one of them stands for all."""

    name = "consolidated"
    form = "a folder with a params.json and consolidated.* files"

    def matches(self, path: Path) -> bool:
        from burnish.frontends.consolidated import consolidated_files
        from burnish.frontends.weight_files import has_weights

        if path.is_file():
            return path in consolidated_files(path.parent)
        return bool(consolidated_files(path)) and not has_weights(path)

    def load(self, path: Path) -> Module:
        from burnish.frontends.consolidated import load_consolidated

        return load_consolidated(path if path.is_dir() else path.parent)


class Gguf(Source):
    """A model, its config and its tokenizer in one file, which may be the only one in a folder."""

    name = "gguf"
    form = "a .gguf file"

    def matches(self, path: Path) -> bool:
        return self._file(path) is not None

    def load(self, path: Path) -> Module:
        from burnish.frontends.gguf import load_gguf

        file = self._file(path)
        assert file is not None
        return load_gguf(file)

    def tokenizer(self, path: Path) -> str | None:
        """That of the file, unless a `tokenizer.json` lies beside it."""
        from burnish.frontends.gguf_file import header_of
        from burnish.frontends.tokenizers.gguf import gguf_tokenizer

        beside, own = super().tokenizer(path), self._file(path)
        if beside is not None or own is None:
            return beside
        file = header_of(own)
        return gguf_tokenizer(file) if "tokenizer.ggml.model" in file.metadata else None

    def chat_template(self, path: Path) -> ChatTemplate | None:
        """That of the file, unless one lies beside it."""
        from burnish.frontends.gguf_file import header_of
        from burnish.frontends.tokenizers.chat_template import gguf_chat_template

        beside, own = super().chat_template(path), self._file(path)
        return gguf_chat_template(header_of(own)) if beside is None and own is not None else beside

    def _file(self, path: Path) -> Path | None:
        from burnish.frontends.weight_files import has_weights

        if path.is_file():
            return path if path.suffix.lower() == ".gguf" else None
        if has_weights(path):
            return None
        found = [p for p in path.glob("*") if p.suffix.lower() in (".gguf", ".safetensors")]
        return found[0] if len(found) == 1 and found[0].suffix.lower() == ".gguf" else None
