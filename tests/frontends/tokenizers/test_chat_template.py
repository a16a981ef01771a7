"""Where chat templates lie, and which of several counts."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from burnish.frontends.config import LoadError
from burnish.frontends.gguf_file import GgufFile
from burnish.frontends.tokenizers.chat_template import gguf_chat_template, read_chat_template
from tests import models


def write(folder: Path, **files: Any) -> Path:
    for name, value in files.items():
        file = folder / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(exist_ok=True)
        file.write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def text_of(folder: Path, tools: bool = False) -> str | None:
    found = read_chat_template(folder)
    return None if found is None else found.text(tools)


def test_a_file_of_its_own_goes_before_the_config(tmp_path: Path) -> None:
    assert text_of(tmp_path) is None
    write(tmp_path, tokenizer_config_dot_json={"bos_token": "<s>"})
    assert text_of(tmp_path) is None
    write(tmp_path, tokenizer_config_dot_json={"chat_template": "in the config"})
    assert text_of(tmp_path) == "in the config"
    write(tmp_path, chat_template_dot_json={"chat_template": "for a processor"})
    assert text_of(tmp_path) == "for a processor"
    write(tmp_path, chat_template_dot_jinja="a file\n")
    assert text_of(tmp_path) == "a file\n"


def test_of_named_ones_the_default_counts_and_that_for_tools(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]
    write(tmp_path, tokenizer_config_dot_json={"chat_template": named})
    assert (text_of(tmp_path), text_of(tmp_path, tools=True)) == ("D", "T")
    write(tmp_path, tokenizer_config_dot_json={"chat_template": [*named[1:], {"name": "rag", "template": "R"}]})
    assert text_of(tmp_path, tools=True) == "T"
    with pytest.raises(LoadError, match=r"tokenizer_config\.json: has templates rag, tool_use, none of them default"):
        text_of(tmp_path)
    write(tmp_path, chat_template_dot_jinja="D2", additional_chat_templates__tool_use_dot_jinja="T2")
    assert (text_of(tmp_path), text_of(tmp_path, tools=True)) == ("D2", "T2")


SAYS: list[dict[str, Any]] = [
    {"bos_token": "<s>", "eos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": False}, "pad_token": None},
    {"eos_token": "<e>", "image_token": "<img>", "additional_special_tokens": ["<x>"], "add_bos_token": True},
    {"added_tokens_decoder": {"256": {"content": "<m>", "special": True}}, "bos_token": "<m>"},
]


@pytest.mark.parametrize("says", SAYS)
@pytest.mark.parametrize("older", [{}, {"bos_token": "<b>", "unk_token": {"content": "<u>"}}])
def test_the_tokens_it_may_name_are_those_of_transformers(tmp_path: Path, says: dict, older: dict) -> None:
    made = models.byte_tokenizer(merges=0)
    made.add_special_tokens(["<m>"])
    made.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": "x"} | says
    write(tmp_path, tokenizer_config_dot_json=config, special_tokens_map_dot_json=older)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    found = read_chat_template(tmp_path)
    assert found is not None and found.tokens == theirs.special_tokens_map
    write(
        tmp_path, chat_template_dot_json=found.as_json(), special_tokens_map_dot_json={}, tokenizer_config_dot_json={}
    )
    again = read_chat_template(tmp_path)
    assert again is not None and (again.tokens, again.templates) == (found.tokens, found.templates)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_config_dot_json": {"chat_template": 3}}, "chat_template must be a template, or a list of named"),
        ({"tokenizer_config_dot_json": {"chat_template": []}}, "chat_template must be a template, or a list of named"),
        ({"tokenizer_config_dot_json": {"chat_template": ["x"]}}, "chat_template must be a template, or a list of nam"),
        ({"tokenizer_config_dot_json": {"chat_template": [{"name": "x"}]}}, "chat_template: template is missing"),
        ({"chat_template_dot_json": []}, "chat_template.json: is not a JSON object"),
        ({"tokenizer_config_dot_json": {"chat_template": "x", "bos_token": 3}}, "a token must be a text, or an object"),
        (
            {"tokenizer_config_dot_json": {"chat_template": "x", "bos_token": ""}},
            "a token must be a text, or an object",
        ),
        (
            {"tokenizer_config_dot_json": {"chat_template": "x", "bos_token": {"content": "a", "lstrip": 1}}},
            "lstrip of token 'a' must be true or false, not 1",
        ),
        (
            {"tokenizer_config_dot_json": {"chat_template": "x", "additional_special_tokens": 3}},
            "additional_special_tokens must be a list of tokens, not 3",
        ),
        (
            {"tokenizer_config_dot_json": {"chat_template": "x", "added_tokens_decoder": []}},
            "added_tokens_decoder must be an object from ids to tokens",
        ),
        (
            {"tokenizer_config_dot_json": {"chat_template": "x", "added_tokens_decoder": {"-1": "a"}}},
            "the id of an added token must be an integer from 0 to 16777215, not '-1'",
        ),
        ({"chat_template_dot_jinja": "x" * (5 << 20)}, "are too many for a chat template"),
    ],
)
def test_what_is_no_template_is_refused(tmp_path: Path, files: dict, message: str) -> None:
    with pytest.raises(LoadError, match=message) as e:
        read_chat_template(write(tmp_path, **files))
    assert str(e.value).startswith(str(tmp_path)) and len(str(e.value)) < 500


def test_a_gguf_file_s(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"tokenizer.ggml.tokens": ("<u>", "<s>", "</s>"), "tokenizer.ggml.bos_token_id": 1}
    keys |= {"tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.padding_token_id": 9}

    def of(**more: Any) -> GgufFile:
        return GgufFile(tmp_path / "a.gguf", keys | {k.replace("__", "."): v for k, v in more.items()}, {})

    assert gguf_chat_template(of()) is None
    found = gguf_chat_template(of(tokenizer__chat_template="D", tokenizer__chat_template__tool_use="T"))
    assert found is not None and (found.text(), found.text(tools=True)) == ("D", "T")
    assert found.tokens == {"bos_token": "<s>", "unk_token": "<u>"}
    with pytest.raises(LoadError, match=r"a\.gguf: tokenizer\.chat_template must be a string, not 3"):
        gguf_chat_template(of(tokenizer__chat_template=3))
