"""Chat templates: the text, in Jinja, that makes one text of a conversation. Where it lies, and the tokens it may name.

https://huggingface.co/docs/transformers/chat_templating. Nothing is run here; see `runtime/chat_template.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.frontends.config import Config, LoadError, read_object, shown
from burnish.frontends.gguf_file import GgufFile
from burnish.frontends.tokenizers.config import read_tokenizer_config

__all__ = ["ChatTemplate", "gguf_chat_template", "read_chat_template"]

_LARGEST = 4 << 20  # bytes
DEFAULT, TOOLS = "default", "tool_use"
#: what GGUF calls the tokens that a template may name
_GGUF_TOKENS = {f"{name}_token": name for name in "bos eos cls mask".split()}
_GGUF_TOKENS |= {"unk_token": "unknown", "sep_token": "seperator", "pad_token": "padding"}


@dataclass(frozen=True)
class ChatTemplate:
    """Templates by their names, and the texts of special tokens (`bos_token`, …) that they may name."""

    templates: Mapping[str, str]
    tokens: Mapping[str, str]
    where: str

    def text(self, tools: bool = False) -> str:
        """The template that counts: where there are several, `default`, or `tool_use` for a conversation with tools.

        Raises LoadError where none of them is the default.
        """
        if len(self.templates) == 1:
            return next(iter(self.templates.values()))
        name = TOOLS if tools and TOOLS in self.templates else DEFAULT
        if name not in self.templates:
            raise LoadError(f"{self.where}: has templates {', '.join(sorted(self.templates))}, none of them {DEFAULT}")
        return self.templates[name]

    def as_json(self) -> dict[str, Any]:
        """What a `chat_template.json` says of it: `read_chat_template` reads it again."""
        named = [{"name": name, "template": text} for name, text in self.templates.items()]
        return {**self.tokens, "chat_template": named if len(named) > 1 else named[0]["template"]}


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """That of a folder: `chat_template.jinja`, else `chat_template.json`, else in `tokenizer_config.json`.

    None where none of them has one. Raises LoadError.
    """
    file, older, tokens = (
        folder / "chat_template.jinja",
        folder / "chat_template.json",
        read_tokenizer_config(folder).texts,
    )
    beside = {p.stem: p for p in sorted(folder.glob("additional_chat_templates/*.jinja"))}
    if file.exists():
        where, found = file, {DEFAULT: _read(file)} | {name: _read(p) for name, p in beside.items()}
    elif older.exists():
        values = read_object(older)
        where, found = older, _templates(values.get("chat_template"), older)
        tokens = {k: v for k, v in values.items() if k.endswith("_token") and isinstance(v, str)} or tokens
    else:
        where = folder / "tokenizer_config.json"
        found = _templates(read_object(where).get("chat_template"), where) if where.exists() else {}
    return ChatTemplate(found, tokens, str(where)) if found else None


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > _LARGEST:
            raise LoadError(f"{file}: {file.stat().st_size} bytes are too many for a chat template")
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise LoadError(f"{file}: {e}") from None


def _templates(given: object, where: Path) -> dict[str, str]:
    """One template, or a list of named ones."""
    if given is None:
        return {}
    if isinstance(given, str):
        return {DEFAULT: given}
    named = (
        [Config(t, f"{where}: chat_template") for t in given if isinstance(t, dict)] if isinstance(given, list) else []
    )
    if not isinstance(given, list) or not given or len(named) < len(given):
        raise LoadError(f"{where}: chat_template must be a template, or a list of named ones, not {shown(given)}")
    return {t.text("name"): t.text("template") for t in named}


def gguf_chat_template(file: GgufFile) -> ChatTemplate | None:
    """That of a GGUF file; `tokenizer.chat_template.NAME` are further ones. Raises LoadError."""
    key = "tokenizer.chat_template"
    found = {k: v for k, v in file.metadata.items() if k == key or k.startswith(f"{key}.")}
    if not found:
        return None
    for name, text in found.items():
        if not isinstance(text, str):
            raise LoadError(f"{file.path}: {name} must be a string, not {shown(text)}")
    templates = {k.removeprefix(key).removeprefix(".") or DEFAULT: str(v) for k, v in found.items()}
    texts = file.metadata.get("tokenizer.ggml.tokens")
    tokens = {}
    for name, short in _GGUF_TOKENS.items():
        id = file.metadata.get(f"tokenizer.ggml.{short}_token_id")
        if id is not None and isinstance(texts, tuple) and isinstance(id, int) and 0 <= id < len(texts):
            tokens[name] = texts[id]
    return ChatTemplate(templates, tokens, str(file.path))
