"""The tokenizer of a GGUF file as a `tokenizer.json`: byte-level BPE, with pre-tokenizers that are known by name.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; what is meant when they are missing is llama.cpp's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from burnish.frontends.config import Config, LoadError, shown
from burnish.frontends.gguf_file import GgufFile
from burnish.frontends.gguf_names import plain

__all__ = ["gguf_tokenizer"]

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_GPT2 = {**_BYTES, "use_regex": True}  # the library knows GPT-2's pattern
_DIGITS = {"type": "Digits", "individual_digits": True}
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(digits: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": _PATTERN.replace("DIGITS", digits)},
        "behavior": "Isolated",
        "invert": False,
    }


@dataclass(frozen=True)
class _Pre:
    """What the name of a pre-tokenizer stands for."""

    steps: tuple[dict[str, Any], ...]
    normalizer: dict[str, Any] | None = None
    whole_words: bool = False  # a word that is a token is not put together from others
    add_bos: bool = False  # where the file does not say


# The tokenizer.json of SmolLM, GPT-2, Llama 3 and Qwen2. A file has only these names, given by llama.cpp's converter.
_LLAMA3 = _Pre((_split(r"\p{N}{1,3}"), _BYTES), whole_words=True, add_bos=True)
_PRE = {
    "smollm": _Pre((_DIGITS, _GPT2)),
    "gpt-2": _Pre((_GPT2,)),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": _Pre((_split(r"\p{N}"), _BYTES), normalizer={"type": "NFC"}),
}

_KEY = "tokenizer.ggml."
_READ = "model pre tokens token_type merges bos_token_id eos_token_id add_bos_token add_eos_token".split()
#: names of further tokens, and what only other kinds of tokenizers read
_INERT = """
    scores token_type_count unknown_token_id seperator_token_id padding_token_id cls_token_id mask_token_id
    eot_token_id eom_token_id fim_pre_token_id fim_suf_token_id fim_mid_token_id fim_pad_token_id fim_rep_token_id
    fim_sep_token_id prefix_token_id suffix_token_id middle_token_id
""".split()
#: what would change ids, if it were true
_FALSE = "add_space_prefix add_sep_token remove_extra_whitespaces".split()

_NORMAL, _CONTROL, _USER, _UNUSED = 1, 3, 4, 5  # llama_token_type


def gguf_tokenizer(file: GgufFile) -> str:
    """The text of a `tokenizer.json`; where the file has one in it, that, unread.

    Raises LoadError for another kind of tokenizer, a pre-tokenizer that is not known, and lists that do not agree.
    """
    own = file.metadata.get("tokenizer.huggingface.json")
    if isinstance(own, str):
        return own
    keys = Config({k: plain(v) for k, v in file.metadata.items() if k.startswith(_KEY)}, str(file.path))
    keys.choice("tokenizer.ggml.model", ["gpt2"])
    pre = _PRE[keys.choice("tokenizer.ggml.pre", _PRE)]
    for key, value in keys.values.items():
        name = key.removeprefix(_KEY)
        if name not in (*_READ, *_INERT) and (name not in _FALSE or keys.flag(key, False)):
            raise LoadError(f"{keys.where}: {key} = {shown(value)} is not supported")
    tokens, kinds = _tokens(keys)
    vocabulary = {t: i for i, (t, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind != _UNUSED}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(i, tokens[i], kinds[i]) for i in range(len(tokens)) if kinds[i] in (_CONTROL, _USER)],
        "normalizer": pre.normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(pre.steps)},
        "post_processor": _template(keys, tokens, pre),
        "decoder": _BYTES,
        "model": {
            "type": "BPE",
            "ignore_merges": pre.whole_words,
            "vocab": vocabulary,
            "merges": _merges(keys, vocabulary),
        },
    }
    return json.dumps(tokenizer, ensure_ascii=False)


def _tokens(keys: Config) -> tuple[tuple[str, ...], list[int]]:
    """The text of each token, and its kind."""
    tokens = _strings(keys, "tokenizer.ggml.tokens")
    kinds = keys.values.get("tokenizer.ggml.token_type")
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise LoadError(f"{keys.where}: tokenizer.ggml.token_type must be {len(tokens)} numbers, one for each token")
    known: dict[str, int] = {}
    for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        if kind not in (_NORMAL, _CONTROL, _USER, _UNUSED):
            raise LoadError(f"{keys.where}: token {i} {shown(token)} is of type {kind}, which byte-level BPE has not")
        if not token:
            raise LoadError(f"{keys.where}: token {i} is empty")
        if known.setdefault(token, i) != i:
            raise LoadError(f"{keys.where}: {shown(token)} is the text of tokens {known[token]} and {i}")
    return tokens, kinds


def _merges(keys: Config, vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """The pairs that are joined, the first ones first: two tokens with a space between, which may begin with one."""
    pairs = []
    for i, text in enumerate(_strings(keys, "tokenizer.ggml.merges")):
        at = text.find(" ", 1)
        left, right = text[:at], text[at + 1 :]
        if at < 0 or not {left, right, left + right} <= vocabulary.keys():
            raise LoadError(f"{keys.where}: merge {i} {shown(text)} does not join two tokens to one")
        pairs.append((left, right))
    return pairs


def _strings(keys: Config, key: str) -> tuple[str, ...]:
    value = keys.values.get(key)
    if not isinstance(value, tuple) or not value:
        raise LoadError(f"{keys.where}: {key} must be a list of strings")
    return value


def _added(id: int, text: str, kind: int) -> dict[str, Any]:
    """A token that is found in a text as it stands; control tokens are left out when ids are decoded."""
    trimmed = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": text, **trimmed, "special": kind == _CONTROL}


def _template(keys: Config, tokens: tuple[str, ...], pre: _Pre) -> dict[str, Any] | None:
    """What puts a first and a last token around each text; None where there are none."""
    ends: dict[str, list[dict[str, Any]]] = {}
    special = {}
    for name, default in (("bos", pre.add_bos), ("eos", False)):
        ends[name] = []
        if keys.flag(f"{_KEY}add_{name}_token", default):
            id = keys.integer(f"{_KEY}{name}_token_id", least=0, most=len(tokens) - 1)
            special[tokens[id]] = dict(id=tokens[id], ids=[id], tokens=[tokens[id]])
            ends[name] = [{"SpecialToken": {"id": tokens[id], "type_id": 0}}]
    if not special:
        return None
    texts = [[*ends["bos"], {"Sequence": {"id": text, "type_id": 0}}, *ends["eos"]] for text in "AB"]
    return {"type": "TemplateProcessing", "single": texts[0], "pair": texts[0] + texts[1], "special_tokens": special}
