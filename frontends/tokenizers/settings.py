"""What `tokenizer_config.json` says of a `tokenizer.json` beside it, and goes before it.

Transformers makes most classes' tokenizers anew from the file's vocabulary and its own settings; where these are
stated, they count. What is not stated stays as the `tokenizer.json` has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from burnish.frontends.config import LoadError, parse_object
from burnish.frontends.tokenizers.config import TokenizerConfig, read_tokenizer_config
from burnish.frontends.tokenizers.files import class_of
from burnish.frontends.tokenizers.parts import added_tokens, metaspace, sentencepiece_decoder
from burnish.frontends.tokenizers.sentencepiece_kinds import llama_scheme

__all__ = ["with_settings"]

_BERT = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def with_settings(text: str, file: Path) -> str:
    """The text of a `tokenizer.json` as the files beside it have it; the same text where they change nothing.

    Raises LoadError.
    """
    config = read_tokenizer_config(file.parent)
    if not (config.settings.values or config.by_id or config.named):
        return text
    values = parse_object(text.encode(), str(file))
    before = json.dumps(values)
    try:
        _settle(values, config, class_of(file.parent, config))
        _add_tokens(values, config)
    except (AttributeError, KeyError, TypeError) as e:  # of parts that are none, as the library will say
        raise LoadError(f"{file}: is not a tokenizer: {type(e).__name__}: {e}") from None
    return text if json.dumps(values) == before else json.dumps(values, ensure_ascii=False)


def _settle(values: dict[str, Any], config: TokenizerConfig, name: str) -> None:
    says = config.settings
    for part in _parts(values.get("normalizer")):
        if part.get("type") == "BertNormalizer":
            part |= {key: says.flag(k, False) for k, key in _BERT.items() if says.has(k)}
    words = [*_parts(values.get("pre_tokenizer"))]
    for part in words:
        if part.get("type") == "ByteLevel" and says.has("add_prefix_space"):
            part["add_prefix_space"] = says.flag("add_prefix_space", False)
    is_llama = name == "LlamaTokenizer" and not any(p.get("type") == "ByteLevel" for p in words)
    if is_llama and values["model"].get("type") == "BPE" and (says.has("legacy") or says.has("add_prefix_space")):
        space = says.flag("add_prefix_space", True)
        values["normalizer"] = None
        values["pre_tokenizer"] = metaspace(llama_scheme(space, says.flag("legacy", False)), split=False)
        values["decoder"] = sentencepiece_decoder(strip=space)


def _parts(part: Any) -> Iterator[dict[str, Any]]:
    """A part, or those of a sequence."""
    if part is not None:
        inner = [p for key in ("normalizers", "pretokenizers") for p in part.get(key) or ()]
        yield from inner if inner else [part]


def _add_tokens(values: dict[str, Any], config: TokenizerConfig) -> None:
    """Tokens that are stated, and not found in a text yet."""
    added = values.get("added_tokens") or []
    there = {t["content"] for t in added}
    wanted = [t for t in (*config.named.values(), *config.extra) if t["content"] not in there]
    by_id = {id: t for id, t in config.by_id.items() if t["content"] not in there}
    if not wanted and not by_id:
        return
    vocab = values["model"]["vocab"]
    ids = dict(vocab) if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
    ids |= {t["content"]: t["id"] for t in added}
    new = added_tokens(ids, wanted, by_id, config.settings.where)
    values["added_tokens"] = sorted([*added, *new], key=lambda t: int(t["id"]))
