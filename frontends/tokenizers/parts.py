"""The parts that a `tokenizer.json` is made of, for tokenizers that come in other files.

Each is what the library `tokenizers` reads: https://huggingface.co/docs/tokenizers/components.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from burnish.frontends.config import LoadError, shown

__all__ = [
    "BERT_SPLIT",
    "BYTES",
    "QWEN2_SPLIT",
    "SPACE",
    "WORDPIECE_DECODER",
    "added_tokens",
    "bert_normalizer",
    "bpe",
    "byte_level",
    "charsmap",
    "derived_merges",
    "metaspace",
    "replace",
    "roberta_ends",
    "sentencepiece_decoder",
    "sequence",
    "split",
    "template",
    "tokenizer_json",
    "unigram",
    "word_pieces",
]

Part = dict[str, Any]
Added = dict[str, Any]

SPACE = "▁"  # what sentencepiece writes for a space
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = LLAMA3_SPLIT.replace("DIGITS", r"\p{N}")
BERT_SPLIT: Part = {"type": "BertPreTokenizer"}
WORDPIECE_DECODER: Part = {"type": "WordPiece", "prefix": "##", "cleanup": True}


def tokenizer_json(
    model: Part,
    *,
    added: Sequence[Added] = (),
    normalizer: Part | None = None,
    pre_tokenizer: Part | None = None,
    post_processor: Part | None = None,
    decoder: Part | None = None,
) -> str:
    """The text of a `tokenizer.json`."""
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }
    return json.dumps(whole, ensure_ascii=False)


# --------------------------------------------------------------------------------------------------------------- models


def bpe(vocab: Mapping[str, int], merges: Iterable[tuple[str, str]], **options: Any) -> Part:
    """Byte pairs: joined in the order of `merges`. Options: unk_token, fuse_unk, byte_fallback, ignore_merges."""
    return {"type": "BPE", "vocab": dict(vocab), "merges": list(merges), **options}


def word_pieces(vocab: Mapping[str, int], unk_token: str) -> Part:
    """WordPiece: the longest piece that fits, from the left; inside of words with ## before it."""
    settings = {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    return {"type": "WordPiece", "vocab": dict(vocab), "unk_token": unk_token, **settings}


def unigram(pieces: Sequence[tuple[str, float]], unk_id: int, byte_fallback: bool = False) -> Part:
    """The likeliest pieces, by the logarithms of their probabilities."""
    return {"type": "Unigram", "vocab": [list(p) for p in pieces], "unk_id": unk_id, "byte_fallback": byte_fallback}


def derived_merges(
    vocab: Mapping[str, int], rank: Callable[[str], float], without: Collection[str] = ()
) -> list[tuple[str, str]]:
    """What may be joined where only the tokens are known: every two that make a third, by the `rank` of that.

    Sentencepiece's byte pairs are joined by the score of the result, the leftmost first.
    """
    found = []
    for token in vocab:
        if token in without:
            continue
        for at in range(1, len(token)):
            left, right = token[:at], token[at:]
            if left in vocab and right in vocab and left not in without and right not in without:
                found.append((rank(token), len(left), len(right), left, right))
    return [(left, right) for *_, left, right in sorted(found)]


# ------------------------------------------------------------------------------------------- before and after the model


def sequence(kind: str, parts: Iterable[Part | None]) -> Part | None:
    """Several as one: kind is normalizers, pretokenizers or decoders."""
    given = [p for p in parts if p is not None]
    return given[0] if len(given) == 1 else {"type": "Sequence", kind: given} if given else None


def replace(what: str, by: str, regex: bool = False) -> Part:
    """A normalizer, or a decoder."""
    return {"type": "Replace", "pattern": {"Regex" if regex else "String": what}, "content": by}


def charsmap(raw: bytes) -> Part | None:
    """Sentencepiece's own table of characters; None where it is empty."""
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(raw).decode()} if raw else None


def bert_normalizer(lower: bool, accents: bool | None, chinese: bool) -> Part:
    """BERT's; `accents`: whether they are taken off, as `lower` says unless given."""
    flags = {"clean_text": True, "handle_chinese_chars": chinese, "strip_accents": accents, "lowercase": lower}
    return {"type": "BertNormalizer", **flags}


def split(pattern: str, behavior: str = "Isolated", regex: bool = True) -> Part:
    """Words by a pattern."""
    return {
        "type": "Split",
        "pattern": {"Regex" if regex else "String": pattern},
        "behavior": behavior,
        "invert": False,
    }


def byte_level(add_prefix_space: bool = False, use_regex: bool = True) -> Part:
    """Bytes as letters; with GPT-2's pattern, unless words are made before it. The decoder too."""
    settings = {"add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}
    return {"type": "ByteLevel", **settings}


BYTES = byte_level(use_regex=False)


def metaspace(scheme: str, split: bool = True) -> Part:
    """Spaces as `SPACE`, one put before each text (always), before the first (first), or none (never)."""
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split}


def sentencepiece_decoder(strip: bool) -> Part:
    """Spaces, and bytes that make characters; without the space that was put before a text if `strip`."""
    last: list[Part] = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if strip else []
    return {"type": "Sequence", "decoders": [replace(SPACE, " "), {"type": "ByteFallback"}, {"type": "Fuse"}, *last]}


# -------------------------------------------------------------------------------------------------- tokens of their own


def template(ids: Mapping[str, int], single: str | Sequence[str], pair: str | None = None) -> Part | None:
    """Special tokens around each text: `[CLS] $A [SEP]`, of a pair `… $B:1 [SEP]:1`; None where there are none.

    Without `pair`, that is both one after the other. A list holds tokens as they are, with spaces and colons.
    """
    special = {}

    def piece(name: str, type_id: int) -> Part:
        if name in ("$A", "$B"):
            return {"Sequence": {"id": name[1], "type_id": type_id}}
        special[name] = dict(id=name, ids=[ids[name]], tokens=[name])
        return {"SpecialToken": {"id": name, "type_id": type_id}}

    def pieces(text: str | Sequence[str]) -> list[Part]:
        if not isinstance(text, str):
            return [piece(name, 0) for name in text]
        return [piece(word.removesuffix(":1"), int(word.endswith(":1"))) for word in text.split()]

    one, other = pieces(single), ["$B" if name == "$A" else name for name in (single if pair is None else ())]
    made = {
        "type": "TemplateProcessing",
        "single": one,
        "pair": [*one, *pieces(other)] if pair is None else pieces(pair),
    }
    return {**made, "special_tokens": special} if special else None


def roberta_ends(ids: Mapping[str, int], cls: str, sep: str, add_prefix_space: bool = False) -> Part:
    """`<s> $A </s>`, and `<s> $A </s> </s> $B </s>` of a pair, all of one type."""
    settings = {"trim_offsets": True, "add_prefix_space": add_prefix_space}
    return {"type": "RobertaProcessing", "sep": [sep, ids[sep]], "cls": [cls, ids[cls]], **settings}


def added_tokens(ids: dict[str, int], wanted: Iterable[Added], by_id: Mapping[int, Added], where: str) -> list[Added]:
    """Tokens that are found in a text as they stand, with their ids: the model's, or behind all others.

    Those with an id come first, in their order; of two with one text the first counts. Writes into `ids`. Raises
    LoadError where a stated id is another one.
    """
    found: dict[str, Added] = {}
    following = max(ids.values(), default=-1) + 1
    stated = [(id, by_id[id]) for id in sorted(by_id)]
    for id, token in [*stated, *((None, t) for t in wanted)]:
        text = token["content"]
        if text in found:
            continue
        if text not in ids:
            ids[text], following = following, following + 1
        if id is not None and ids[text] != id:
            raise LoadError(f"{where}: token {shown(text)} is stated to be {id}, but would be {ids[text]}")
        found[text] = {"id": ids[text], **token}
    return sorted(found.values(), key=lambda t: int(t["id"]))
