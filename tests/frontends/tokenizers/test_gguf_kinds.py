"""Sentencepiece's and BERT's tokenizers read from GGUF: the ids of sentencepiece itself, and of transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import tokenizers
import transformers

from burnish.frontends.config import LoadError
from burnish.frontends.gguf_file import GgufFile
from burnish.frontends.tokenizers.gguf import gguf_tokenizer
from tests.frontends.tokenizers.test_files import LLAMA, T5, folder_of, protobuf_of, spm, texts

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)
PAIRS = LLAMA | {"control_symbols": "<start>", "user_defined_symbols": "<tool>"}


def file_of(path: Path, keys: dict[str, Any]) -> GgufFile:
    return GgufFile(path / "model.gguf", {f"tokenizer.ggml.{k}": v for k, v in keys.items() if v is not None}, {})


def read(path: Path, keys: dict[str, Any]) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(gguf_tokenizer(file_of(path, keys)))


def keys_of(raw: bytes, model: str) -> dict[str, Any]:
    """The keys, as llama.cpp's converter makes them of a sentencepiece model."""
    made = protobuf_of(raw)
    return {
        "model": model,
        "pre": "default",
        "tokens": tuple(p.piece for p in made.pieces),
        "scores": np.array([p.score for p in made.pieces], np.float32),
        "token_type": np.array([p.type for p in made.pieces]),
        "unknown_token_id": made.trainer_spec.unk_id,
        "add_space_prefix": made.normalizer_spec.add_dummy_prefix,
    }


def without_special(text: str) -> str:
    for token in ("<s>", "</s>", "<unk>", "<pad>", "<start>", "<tool>", "▁"):
        text = text.replace(token, "")
    return text


@pytest.mark.parametrize("prefix", [True, False])
def test_byte_pairs_are_those_of_sentencepiece(tmp_path: Path, prefix: bool) -> None:
    raw = spm("bpe", **PAIRS, add_dummy_prefix=prefix)
    theirs, ours = sentencepiece.SentencePieceProcessor(model_proto=raw), read(tmp_path, keys_of(raw, "llama"))
    for text in map(without_special, texts(100)):
        assert ours.encode(text).ids == [1, *theirs.encode(text)], text
        assert ours.decode(ours.encode(text).ids) == text
    start, tool = theirs.piece_to_id("<start>"), theirs.piece_to_id("<tool>")
    first = theirs.encode("a")
    assert ours.encode("<start>a<tool>").ids == [1, start, *first, tool]
    assert ours.decode([1, start, *first, tool]) == "a<tool>"


def test_unigrams_are_those_of_sentencepiece(tmp_path: Path) -> None:
    raw = spm("unigram", **T5)
    made = protobuf_of(raw)
    keys = keys_of(raw, "t5") | {"remove_extra_whitespaces": True, "eos_token_id": 1}
    keys["precompiled_charsmap"] = np.frombuffer(made.normalizer_spec.precompiled_charsmap, np.int8)
    theirs, ours = sentencepiece.SentencePieceProcessor(model_proto=raw), read(tmp_path, keys)
    for text in map(without_special, texts(100)):
        if text.isprintable():  # transformers cuts at every kind of white space before it maps characters
            assert ours.encode(text).ids == [*theirs.encode(text), 1], text


def test_unigrams_are_those_of_transformers(tmp_path: Path) -> None:
    folder = folder_of("T5Tokenizer few", tmp_path)
    theirs = transformers.T5Tokenizer.from_pretrained(folder)
    raw = (folder / "spiece.model").read_bytes()
    keys = keys_of(raw, "t5") | {"eos_token_id": 1}
    keys["precompiled_charsmap"] = np.frombuffer(protobuf_of(raw).normalizer_spec.precompiled_charsmap, np.uint8)
    ours = read(tmp_path, keys)
    for text in texts():
        if "<extra_id" not in text:
            assert ours.encode(text).ids == theirs(text).input_ids, text


@pytest.mark.parametrize("case", ["BertTokenizer", "BertTokenizer cased"])
def test_word_pieces_are_those_of_transformers(tmp_path: Path, case: str) -> None:
    folder = folder_of(case, tmp_path)
    lower = case == "BertTokenizer"
    (folder / "tokenizer_config.json").write_text(f'{{"do_lower_case": {str(lower).lower()}}}')
    theirs = transformers.BertTokenizer.from_pretrained(folder)
    own = (folder / "vocab.txt").read_text().splitlines()
    special = {t for t in own if t[0] == "[" and t[-1] == "]" and len(t) > 2}
    tokens = [t if t in special else t[2:] if t.startswith("##") else "▁" + t for t in own]
    keys: dict[str, Any] = {
        "model": "bert",
        "tokens": tuple(tokens),
        "token_type": np.array([CONTROL if t in special else NORMAL for t in own]),
        "bos_token_id": 2,
        "seperator_token_id": 3,
        "unknown_token_id": 1,
        "add_bos_token": True,
        "normalizer.lowercase": lower,
    }
    for ours in (
        read(tmp_path, keys),
        read(tmp_path, keys | {"token_type": None, "cls_token_id": 2, "bos_token_id": None}),
    ):
        for text in texts():
            assert ours.encode(text).ids == theirs(text).input_ids, text
            assert ours.decode(ours.encode(text).ids) == theirs.decode(theirs(text).input_ids, skip_special_tokens=True)


SMALL = {
    "model": "llama",
    "tokens": ("<unk>", "<s>", "</s>", "<0x41>", "▁", "a", "▁a"),
    "token_type": np.array([UNKNOWN, CONTROL, CONTROL, BYTE, NORMAL, NORMAL, NORMAL]),
    "scores": np.array([0, 0, 0, 0, -2, -1, -3], np.float32),
}


def test_what_a_file_does_not_say_is_llama_cpp_s(tmp_path: Path) -> None:
    ours = read(tmp_path, SMALL)
    assert ours.encode("aA?").ids == [1, 6, 3, 0], "a beginning, a space, a byte, and what is none"
    assert read(tmp_path, SMALL | {"add_space_prefix": False, "add_eos_token": True}).encode("a").ids == [1, 5, 2]
    unigrams = SMALL | {
        "model": "t5",
        "token_type": np.array([CONTROL, CONTROL, UNKNOWN, NORMAL, NORMAL, NORMAL, NORMAL]),
    }
    assert read(tmp_path, unigrams).encode("a  a").ids == [5 + 1, 6, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": None}, "scores must be 7 numbers, one for each token"),
        ({"scores": np.zeros(6)}, "scores must be 7 numbers"),
        ({"scores": np.full(7, np.nan)}, "scores must be 7 numbers"),
        ({"scores": ("0",) * 7}, "scores must be 7 numbers"),
        ({"token_type": np.full(7, 7)}, "token 0 '<unk>' is of type 7, which a tokenizer 'llama' has not"),
        ({"bos_token_id": 7}, "bos_token_id must be an integer from 0 to 6"),
        ({"unknown_token_id": -1}, "unknown_token_id must be an integer from 0 to 6"),
        ({"precompiled_charsmap": np.arange(9)}, r"precompiled_charsmap = \[0, 1, .* is not supported"),
        ({"model": "t5", "precompiled_charsmap": "x"}, "precompiled_charsmap must be a list of bytes"),
        ({"model": "t5", "precompiled_charsmap": np.array([999])}, "precompiled_charsmap must be a list of bytes"),
        ({"model": "bert"}, "bos_token_id must be an integer from 0 to 6, not 101"),
        ({"model": "bert", "add_space_prefix": True}, "add_space_prefix = True is not supported"),
        ({"model": "bert", "token_type": np.zeros(3)}, "token_type must be 7 numbers"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LoadError, match=message) as e:
        gguf_tokenizer(file_of(tmp_path, SMALL | changes))
    assert str(e.value).startswith(f"{tmp_path}/model.gguf: ") and "\n" not in str(e.value)
