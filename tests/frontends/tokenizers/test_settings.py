"""A tokenizer.json beside settings that say otherwise: what transformers makes of both."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers

from burnish.frontends.config import LoadError
from burnish.frontends.tokenizers.files import tokenizer_of_files
from burnish.frontends.tokenizers.settings import with_settings
from tests.frontends.tokenizers.test_files import folder_of, texts

CASES: list[tuple[str, dict[str, Any]]] = [
    ("BertTokenizer", {"do_lower_case": False}),
    ("BertTokenizer cased", {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": True}),
    ("DistilBertTokenizer", {"strip_accents": True, "additional_special_tokens": ["[E1]", "[E2]"]}),
    ("MPNetTokenizer", {"do_lower_case": False}),
    ("GPT2Tokenizer", {"add_prefix_space": True}),
    ("GPT2Tokenizer spaces", {"add_prefix_space": False, "pad_token": "[PAD]"}),
    ("RobertaTokenizer", {"add_prefix_space": True}),
    ("Qwen2Tokenizer", {"add_prefix_space": False, "additional_special_tokens": ["<|im_start|>"]}),
    ("LlamaTokenizer", {"legacy": True, "add_bos_token": False}),
    ("LlamaTokenizer legacy", {"legacy": False}),
    ("LlamaTokenizer no space", {"legacy": False, "add_prefix_space": True}),
    ("LlamaTokenizer", {"legacy": False, "add_prefix_space": False}),
]


@pytest.mark.parametrize(("case", "says"), CASES, ids=[f"{c} {' '.join(s)}" for c, s in CASES])
def test_what_is_stated_counts(case: str, says: dict[str, Any], tmp_path: Path) -> None:
    text, file = tokenizer_of_files(folder_of(case, tmp_path)), tmp_path / "tokenizer.json"
    assert text is not None
    file.write_text(text)
    config = {"tokenizer_class": case.split(maxsplit=1)[0]} | says
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = getattr(transformers, config["tokenizer_class"]).from_pretrained(tmp_path)
    ours = tokenizers.Tokenizer.from_str(with_settings(text, file))
    for x in texts():
        assert ours.encode(x).ids == theirs(x).input_ids, x
    changed = any(
        ours.encode(x).ids != tokenizers.Tokenizer.from_str(text).encode(x).ids for x in [*texts(), "[E1][PAD]"]
    )
    assert changed or "Qwen2" in case, "it matters"


def test_where_nothing_is_stated_it_stays_to_the_byte(tmp_path: Path) -> None:
    text = tokenizer_of_files(folder_of("BertTokenizer", tmp_path))
    assert text is not None
    odd = text.replace(": ", ":  ")
    for config in ({}, {"tokenizer_class": "BertTokenizer", "model_max_length": 512}, {"unk_token": "[UNK]"}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        assert with_settings(odd, tmp_path / "tokenizer.json") == odd
    (tmp_path / "tokenizer_config.json").unlink()
    assert with_settings("{", tmp_path / "tokenizer.json") == "{", "it is not even read"


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true, "pad_token": "x"}')
    for text in (
        "[]",
        '{"model": 3}',
        '{"normalizer": [3], "model": {}}',
        '{"added_tokens": [{}], "model": {"vocab": {}}}',
    ):
        with pytest.raises(LoadError, match=r"tokenizer\.json: is not a"):
            with_settings(text, tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {"7": {"content": "x"}}}')
    with pytest.raises(LoadError, match=r"token 'x' is stated to be 7, but would be 1$"):
        with_settings('{"model": {"type": "BPE", "vocab": {"a": 0}}}', tmp_path / "tokenizer.json")
