"""The bytes that each token of a tokenizer stands for, so that text can be put together without its library."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

__all__ = ["token_bytes"]


def token_bytes(tokenizer_json: str) -> list[bytes]:
    """The bytes of token 0, 1, … of a Hugging Face `tokenizer.json`; empty for a number that is no token.

    What a token's text means is told by the decoder: bytes as letters (GPT-2), `▁` for a space and `<0x0A>` for a
    byte (SentencePiece), `##` for the inside of a word (WordPiece, whose spaces between words are not in its tokens).
    Added tokens mean their own text. Raises whatever the library does for a file that it cannot read.
    """
    import tokenizers

    vocabulary = tokenizers.Tokenizer.from_str(tokenizer_json).get_vocab(with_added_tokens=True)
    settings = json.loads(tokenizer_json)
    added = {t["id"]: t["content"] for t in settings.get("added_tokens") or []}
    decode = _decoder(settings)
    tokens = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for text, id in vocabulary.items():
        tokens[id] = added[id].encode() if id in added else decode(text)
    return tokens


def _decoder(settings: dict[str, Any]) -> Callable[[str], bytes]:
    steps = {step["type"]: step for step in _steps(settings.get("decoder"))}
    if "ByteLevel" in steps:
        return _from_letters
    spaces: dict[str, str] = {}
    if "Metaspace" in steps:
        spaces[steps["Metaspace"].get("replacement", "▁")] = " "
    if "Replace" in steps:
        spaces[steps["Replace"]["pattern"].get("String", "▁")] = steps["Replace"].get("content", " ")
    if "BPEDecoder" in steps:
        spaces[steps["BPEDecoder"].get("suffix", "</w>")] = " "
    inside = steps["WordPiece"].get("prefix", "##") if "WordPiece" in steps else ""

    def decode(text: str) -> bytes:
        if "ByteFallback" in steps and re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", text):
            return bytes([int(text[3:5], 16)])
        for mark, meaning in spaces.items():
            text = text.replace(mark, meaning)
        return (text.removeprefix(inside) if inside else text).encode()

    return decode


def _steps(decoder: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if decoder is not None:
        yield decoder
        for step in decoder.get("decoders") or []:
            yield from _steps(step)


def _from_letters(text: str) -> bytes:
    letters = _letters()
    return b"".join(bytes([letters[c]]) if c in letters else c.encode() for c in text)


@cache
def _letters() -> dict[str, int]:
    """GPT-2's letter for each byte, reversed: printable bytes stand for themselves, the others follow from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
