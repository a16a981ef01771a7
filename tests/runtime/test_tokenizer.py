"""Text to ids and back, and text that comes token by token."""

import json
from pathlib import Path

import pytest
import tokenizers
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models as kinds
from tokenizers import normalizers, processors

from burnish.frontends.config import LoadError
from burnish.runtime.tokenizer import Tokenizer
from tests import models


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    file: Path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    models.byte_tokenizer().save(str(file))
    return Tokenizer.load(file)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_what_is_streamed_adds_up_to_the_text(tokenizer, text: str) -> None:
    stream = tokenizer.stream()
    pieces = [stream(token) for token in tokenizer.encode(text)]
    assert "".join([*pieces, stream(None)]) == tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text("aé語🙂", min_size=1, max_size=8))
def test_each_character_comes_with_its_last_token_and_never_broken(tokenizer, text: str) -> None:
    stream = tokenizer.stream()
    pieces = [stream(token) for token in tokenizer.encode(text)]
    assert [p for p in pieces if p] == list(text)


def test_a_replacement_character_that_is_meant_comes_with_what_follows(tokenizer) -> None:
    stream = tokenizer.stream()
    assert "".join(stream(token) for token in tokenizer.encode("a\ufffdb")) == "a\ufffdb"


def test_bytes_that_never_become_a_character_come_at_the_end(tokenizer) -> None:
    stream = tokenizer.stream()
    first, *_ = tokenizer.encode("語")
    assert [stream(first), stream(None)] == ["", "\ufffd"]


def test_spans_are_of_characters(tokenizer) -> None:
    asked = tokenizer.ask("né the")
    ids, spans = asked.ids, asked.spans
    assert len(ids) == len(spans)
    assert {spans[1], spans[2]} == {(1, 2)}  # two bytes of one character


def test_settings_for_training_are_left_out(tmp_path) -> None:
    made = models.byte_tokenizer()
    made.enable_padding(length=32)
    made.enable_truncation(2)
    made.save(str(tmp_path / "tokenizer.json"))
    assert len(Tokenizer.load(tmp_path / "tokenizer.json").encode("abc xyz")) == 7


@pytest.mark.parametrize("text", ["{}", "[]", '{"model": {"type": "Magic"}}', "\0"])
def test_a_file_that_is_no_tokenizer(tmp_path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(LoadError, match=r"tokenizer\.json: is not a tokenizer: "):
        Tokenizer.load(tmp_path / "tokenizer.json")


TEMPLATES = {
    "none": None,
    "the first": processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)]),
    "both": processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> $B </s>", [("<s>", 1), ("</s>", 2)]),
}


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("says", [{}, {"add_bos_token": False}, {"add_bos_token": True, "add_eos_token": True}])
@pytest.mark.parametrize("cls", ["LlamaTokenizer", "PreTrainedTokenizerFast"])
def test_what_is_added_is_what_transformers_adds(template: str, says: dict, cls: str, tmp_path: Path) -> None:
    """The tokenizer.json says it alone, whatever tokenizer_config.json says beside it."""
    vocabulary = ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "▁b"]
    made = tokenizers.Tokenizer(kinds.BPE({w: i for i, w in enumerate(vocabulary)}, [("▁", "a"), ("▁", "b")]))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.add_special_tokens(vocabulary[:3])
    if TEMPLATES[template] is not None:
        made.post_processor = TEMPLATES[template]
    made.save(str(tmp_path / "tokenizer.json"))
    config = says | {"tokenizer_class": cls, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.load(tmp_path / "tokenizer.json")
    for text in ("a b", "b", "a a c"):
        assert ours.encode(text) == theirs(text).input_ids
