"""What lies beside a tokenizer: `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`.

Which of them counts is transformers' choice: https://huggingface.co/docs/transformers/main_classes/tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.frontends.config import Config, LoadError, read_object, shown

__all__ = ["NAMED", "Added", "TokenizerConfig", "read_tokenizer_config", "token_of"]

#: what tokens with a task of their own are called, in the order in which they are added; then come those whose task
#: only some models know (`image_token`)
NAMED = "bos_token eos_token unk_token sep_token pad_token cls_token mask_token".split()
_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")

Added = dict[str, Any]  # an entry of a tokenizer.json's `added_tokens`, perhaps without its id


@dataclass(frozen=True)
class TokenizerConfig:
    """The settings; tokens by name (`bos_token`); further special ones; those that are stated with their ids."""

    settings: Config
    named: Mapping[str, Added] = field(default_factory=dict)
    extra: tuple[Added, ...] = ()
    by_id: Mapping[int, Added] = field(default_factory=dict)
    #: named tokens that are stated not to be there
    without: frozenset[str] = frozenset()

    @property
    def tokenizer_class(self) -> str:
        """Without `Fast` at its end; "" where it is not said."""
        return self.settings.text("tokenizer_class", "").removesuffix("Fast")

    @property
    def texts(self) -> dict[str, str]:
        """The text of each named token."""
        return {name: token["content"] for name, token in self.named.items()}


def read_tokenizer_config(folder: Path) -> TokenizerConfig:
    """That of a folder; an empty one where it has none of the files. Raises LoadError."""
    file = folder / "tokenizer_config.json"
    settings = Config(_object(file), str(file))
    values = dict(settings.values)
    by_id: dict[int, Added] = {}
    if (stated := values.get("added_tokens_decoder")) is not None:
        if not isinstance(stated, dict):
            raise LoadError(f"{file}: added_tokens_decoder must be an object from ids to tokens, not {shown(stated)}")
        for key, token in stated.items():
            by_id[_id(key, file)] = token_of(token, file, special=False)
    else:
        values |= _object(folder / "special_tokens_map.json")
    others = [k for k, v in values.items() if k.endswith("_token") and k not in NAMED and isinstance(v, str | dict)]
    named = {name: token_of(values[name], file) for name in (*NAMED, *others) if values.get(name) is not None}
    extra = _extra(values, file)
    if stated is None:
        special = {t["content"] for t in (*named.values(), *extra)}
        for text, id in _object(folder / "added_tokens.json").items():
            by_id[_id(id, folder / "added_tokens.json")] = token_of(text, file, special=text in special)
    known = {t["content"]: t for t in by_id.values()}
    named = {name: {**known.get(t["content"], t), "special": True} for name, t in named.items()}
    without = frozenset(name for name in NAMED if name in values and values[name] is None)
    return TokenizerConfig(settings, named, extra, by_id, without)


def _object(file: Path) -> dict[str, Any]:
    return read_object(file) if file.exists() else {}


def _id(given: object, file: Path) -> int:
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 10:
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < 1 << 24:
        raise LoadError(
            f"{file}: the id of an added token must be an integer from 0 to {(1 << 24) - 1}, not {shown(given)}"
        )
    return given


def _extra(values: Mapping[str, Any], file: Path) -> tuple[Added, ...]:
    """Special tokens without a name of their own."""
    given = values.get("extra_special_tokens") or values.get("additional_special_tokens") or []
    listed = list(given.values()) if isinstance(given, dict) else given
    if not isinstance(listed, list):
        raise LoadError(f"{file}: additional_special_tokens must be a list of tokens, not {shown(given)}")
    return tuple(token_of(t, file) for t in listed)


def token_of(given: object, where: Path | str, special: bool = True) -> Added:
    """A token that is its text, or an object that says more; special ones are not normalized unless that is said."""
    values = {"content": given} if isinstance(given, str) else given
    if not isinstance(values, dict) or not isinstance(text := values.get("content"), str) or not text:
        raise LoadError(f"{where}: a token must be a text, or an object with its content, not {shown(given)}")
    flags = {"special": special, "normalized": not special} | {k: values[k] for k in _FLAGS if k in values}
    if wrong := [k for k, v in flags.items() if not isinstance(v, bool)]:
        raise LoadError(
            f"{where}: {wrong[0]} of token {shown(text)} must be true or false, not {shown(flags[wrong[0]])}"
        )
    return {"content": text, **dict.fromkeys(_FLAGS, False), **flags}
