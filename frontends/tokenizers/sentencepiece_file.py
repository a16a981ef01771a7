"""Sentencepiece's models: a protobuf of pieces and settings.

The format: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto. Only what a tokenizer is
made of is read, by a reader of a few lines, so that no library has to be there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from burnish.frontends.config import LoadError, shown
from burnish.frontends.on_disk import begins_as

__all__ = ["BYTE", "CONTROL", "NORMAL", "UNKNOWN", "UNUSED", "USER", "SentencePiece", "read_sentencepiece"]

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)  # ModelProto.SentencePiece.Type
_LARGEST = 64 << 20  # bytes
_TIKTOKEN = "is a file of tiktoken, not of sentencepiece, which is read: save it with transformers' AutoTokenizer first"
_UNIGRAM, _BPE = 1, 2  # TrainerSpec.ModelType


@dataclass(frozen=True)
class SentencePiece:
    """The pieces in the order of their ids, with scores and types, and how a text becomes some."""

    pieces: tuple[tuple[str, float], ...]
    types: tuple[int, ...]
    is_bpe: bool
    unk_id: int
    byte_fallback: bool
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool

    @property
    def vocabulary(self) -> dict[str, int]:
        """The ids of the pieces."""
        return {text: i for i, (text, _) in enumerate(self.pieces)}


def read_sentencepiece(file: Path) -> SentencePiece:
    """That of a file. Raises LoadError."""
    try:
        if file.stat().st_size > _LARGEST:
            raise LoadError(f"{file}: {file.stat().st_size} bytes are too many for a model of sentencepiece")
        raw = file.read_bytes()
    except OSError as e:
        raise LoadError(f"{file}: {e.strerror or e}") from None
    try:
        return _model(raw)
    except (ValueError, KeyError, IndexError, struct.error) as e:
        known = begins_as(raw[:64]) or (_TIKTOKEN if re.match(rb"[A-Za-z0-9+/]+=* \d+\r?\n", raw[:99]) else "")
        raise LoadError(f"{file}: {known or f'is not a model of sentencepiece: {e}'}") from None


def _model(raw: bytes) -> SentencePiece:
    pieces, types = list[tuple[str, float]](), list[int]()
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for field, value in _fields(raw):
        if field == 1:
            piece = dict(_fields(_bytes(value)))
            pieces.append((_bytes(piece[1]).decode("utf-8"), _float(piece.get(2, bytes(4)))))
            types.append(_int(piece.get(3, NORMAL)))
        elif field == 2:
            trainer |= dict(_fields(_bytes(value)))
        elif field == 3:
            normalizer |= dict(_fields(_bytes(value)))
    if not pieces:
        raise ValueError("it has no pieces")
    kind, unk = _int(trainer.get(3, _UNIGRAM)), _int(trainer.get(40, 0))
    if kind not in (_UNIGRAM, _BPE):
        raise ValueError(f"it is of type {kind}, and those of unigrams (1) and byte pairs (2) are read")
    unk = next((i for i, t in enumerate(types) if t == UNKNOWN), unk)
    if not 0 <= unk < len(pieces):
        raise ValueError(f"its unknown piece is {unk} of {len(pieces)}")
    if bad := [t for t in types if not NORMAL <= t <= BYTE]:
        raise ValueError(f"it has a piece of type {bad[0]}")
    names = [text for text, _ in pieces]
    if "" in names or len(set(names)) < len(names):
        twice = next((n for i, n in enumerate(names) if not n or n in names[:i]), "")
        raise ValueError(f"it has the piece {shown(twice)} twice" if twice else "it has an empty piece")
    return SentencePiece(
        tuple(pieces),
        tuple(types),
        kind == _BPE,
        unk,
        bool(trainer.get(35, 0)),
        _bytes(normalizer.get(2, b"")),
        bool(normalizer.get(3, 1)),
        bool(normalizer.get(4, 1)),
    )


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The number and the value of each field of a message: an integer, or bytes."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        match key & 7:
            case 0:
                value, at = _varint(raw, at)
                yield key >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, at = _varint(raw, at)
            case 5:
                size = 4
            case wire:
                raise ValueError(f"a field of type {wire}")
        if size > len(raw) - at:
            raise ValueError("it is cut short")
        yield key >> 3, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number that does not end")


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where there must be bytes")
    return value


def _int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("bytes where there must be a number")
    return value if value < 1 << 63 else value - (1 << 64)


def _float(value: int | bytes) -> float:
    (score,) = struct.unpack("<f", _bytes(value))
    if score != score or abs(score) == float("inf"):
        raise ValueError("a score is not finite")
    return float(score)
