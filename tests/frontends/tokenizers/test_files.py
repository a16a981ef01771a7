"""Tokenizers without a tokenizer.json: ids, texts and special tokens are what transformers makes of the files."""

import io
import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
import transformers
from sentencepiece import sentencepiece_model_pb2 as protobuf

from burnish.frontends.config import LoadError
from burnish.frontends.tokenizers.files import tokenizer_of_files, why_not
from burnish.frontends.tokenizers.kind import KINDS
from tests.frontends.tokenizers.test_gguf import CORPUS, TEXTS, random_texts, trained

EXTRA = [
    "Ünïcödé ﬁ ½ ①",
    "a  b   c\n\nd\te ",
    "``quoted'' ''x``",
    "İstanbul ß ſ",
    "[CLS] [MASK] [SEP] <s></s><mask> <pad>",
]
EXTRA += [
    "\u200b\u00ad\ufeff",
    "中文字符 mixed 中a",
    "<extra_id_0> x<extra_id_99>",
    "I'm 3.14, you?!",
    "𝔘𝔫𝔦 𝟘",
    "▁under▁",
    "<unk>",
]


def texts(n: int = 60) -> Iterator[str]:
    yield from (*TEXTS, *EXTRA, CORPUS, *random_texts(n, ["<s>", "[MASK]", "</s>", "▁"]))


@cache
def spm(kind: str, **options: Any) -> bytes:
    """A model that sentencepiece itself has made."""
    made = io.BytesIO()
    sentences = [line for line in (CORPUS + " the of and to in is ''x``").split("\n") if line]
    given = {"vocab_size": 280 if kind == "unigram" else 600, "hard_vocab_limit": False, "minloglevel": 2} | options
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=made, model_type=kind, character_coverage=1.0, **given
    )
    return made.getvalue()


def word_list() -> str:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", "<pad>", "<mask>"]
    made = tokenizers.BertWordPieceTokenizer()
    made.train_from_iterator(CORPUS.splitlines(), 300, show_progress=False, special_tokens=words)
    return "\n".join(sorted(made.get_vocab(), key=made.get_vocab().__getitem__)) + "\n"


def byte_pairs(pre: str = "gpt-2", specials: tuple[str, ...] = ()) -> dict[str, Any]:
    model = json.loads(trained(pre).to_str())["model"]
    vocab = model["vocab"] | {t: len(model["vocab"]) + i for i, t in enumerate(specials)}
    return {"vocab.json": vocab, "merges.txt": "#version: 0.2\n" + "\n".join(map(" ".join, model["merges"])) + "\n"}


FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
T5 = dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
LLAMA = dict(
    byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, unk_id=0, bos_id=1, eos_id=2
)
GEMMA = LLAMA | dict(
    pad_id=0, eos_id=1, bos_id=2, unk_id=3, add_dummy_prefix=False, user_defined_symbols="<mask>,\n\n,▁▁"
)
GEMMA |= {"control_symbols": "<start_of_turn>"}
ALBERT = dict(pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, control_symbols="[CLS],[SEP]", user_defined_symbols="[MASK]")
DEBERTA = dict(
    pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]"
)


def languages(**more: Any) -> dict[str, Any]:
    """What stands behind the pieces, which fairseq moves by one."""
    first = protobuf_of(spm("bpe")).pieces
    named = [*enumerate(("<s>", "<pad>", "</s>", "<unk>"))]
    named += [(len(first) + 1 + i, t) for i, t in enumerate(("eng_Latn", "fra_Latn", "<mask>"))]
    return {"added_tokens_decoder": {str(i): {"content": t, "special": True} for i, t in named}, **more}


def protobuf_of(raw: bytes) -> Any:
    made = protobuf.ModelProto()
    made.ParseFromString(raw)
    return made


CASES: dict[str, tuple[Any, Any]] = {
    "BertTokenizer": ({"vocab.txt": word_list}, {}),
    "BertTokenizer cased": ({"vocab.txt": word_list}, {"do_lower_case": False, "tokenize_chinese_chars": False}),
    "BertTokenizer accents": ({"vocab.txt": word_list}, {"do_lower_case": False, "strip_accents": True}),
    "DistilBertTokenizer": ({"vocab.txt": word_list}, {"strip_accents": False}),
    "MPNetTokenizer": ({"vocab.txt": word_list}, {}),
    "GPT2Tokenizer": (byte_pairs, {}),
    "GPT2Tokenizer spaces": (byte_pairs, {"add_prefix_space": True, "add_bos_token": True, "pad_token": "<pad>"}),
    "GPTNeoXTokenizer": (byte_pairs, {"add_bos_token": True, "add_eos_token": True}),
    "RobertaTokenizer": (lambda: byte_pairs(specials=FAIRSEQ), {}),
    "RobertaTokenizer mask": (
        lambda: byte_pairs(specials=FAIRSEQ),
        {"mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": True}, "add_prefix_space": True},
    ),
    "Qwen2Tokenizer": (lambda: byte_pairs("qwen2"), {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}),
    "LlamaTokenizer": (lambda: {"tokenizer.model": spm("bpe", **LLAMA)}, {"add_bos_token": True}),
    "LlamaTokenizer legacy": (
        lambda: {"tokenizer.model": spm("bpe", **LLAMA)},
        {"legacy": True, "add_eos_token": True},
    ),
    "LlamaTokenizer no space": (lambda: {"tokenizer.model": spm("bpe", **LLAMA)}, {"add_prefix_space": False}),
    "GemmaTokenizer": (lambda: {"tokenizer.model": spm("bpe", **GEMMA)}, {"add_bos_token": True}),
    "T5Tokenizer": (lambda: {"spiece.model": spm("unigram", **T5)}, {}),
    "T5Tokenizer few": (lambda: {"spiece.model": spm("unigram", **T5)}, {"extra_ids": 3}),
    "XLMRobertaTokenizer": (lambda: {"sentencepiece.bpe.model": spm("unigram")}, {}),
    "CamembertTokenizer": (lambda: {"sentencepiece.bpe.model": spm("unigram")}, {}),
    "AlbertTokenizer": (lambda: {"spiece.model": spm("unigram", **ALBERT)}, {}),
    "AlbertTokenizer cased": (
        lambda: {"spiece.model": spm("unigram", **ALBERT)},
        {"do_lower_case": False, "keep_accents": True},
    ),
    "DebertaV2Tokenizer": (lambda: {"spm.model": spm("unigram", **DEBERTA)}, {}),
    "DebertaV2Tokenizer marks": (
        lambda: {"spm.model": spm("unigram", **DEBERTA)},
        {"do_lower_case": True, "split_by_punct": True},
    ),
    "MBartTokenizer": (lambda: {"sentencepiece.bpe.model": spm("unigram")}, {"src_lang": "de_DE"}),
    "MBart50Tokenizer": (lambda: {"sentencepiece.bpe.model": spm("unigram")}, {"src_lang": "fr_XX"}),
    "PegasusTokenizer": (lambda: {"spiece.model": spm("unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)}, {}),
    "NllbTokenizer": (lambda: {"sentencepiece.bpe.model": spm("bpe")}, languages),
    "NllbTokenizer legacy": (
        lambda: {"sentencepiece.bpe.model": spm("bpe")},
        lambda: languages(legacy_behaviour=True, src_lang="fra_Latn"),
    ),
}


def write(folder: Path, files: dict[str, Any]) -> None:
    """Bytes and texts as they are, the rest as JSON."""
    for name, value in files.items():
        text = value if isinstance(value, str | bytes) else json.dumps(value)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def folder_of(case: str, folder: Path) -> Path:
    """The files of a case."""
    files, settings = CASES[case]
    made = files() if callable(files) else {name: make() for name, make in files.items()}
    config = {"tokenizer_class": case.split(maxsplit=1)[0]} | (settings() if callable(settings) else settings)
    write(folder, made | {"tokenizer_config.json": config})
    return folder


@pytest.mark.parametrize("case", CASES)
def test_ids_are_those_of_transformers(case: str, tmp_path: Path) -> None:
    folder = folder_of(case, tmp_path)
    theirs = getattr(transformers, case.split(maxsplit=1)[0]).from_pretrained(folder)
    text = tokenizer_of_files(folder)
    assert text is not None
    ours = tokenizers.Tokenizer.from_str(text)
    for x in texts():
        ids = theirs(x).input_ids
        assert ours.encode(x).ids == ids, x
        for skip in (False, True):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.backend_tokenizer.decode(
                ids, skip_special_tokens=skip
            ), x
    pair = theirs("one text", "and another")
    found = ours.encode("one text", "and another")
    assert found.ids == pair.input_ids
    if "token_type_ids" in pair:
        assert found.type_ids == pair.token_type_ids
    special = {t for t, a in theirs.added_tokens_encoder.items() if theirs.added_tokens_decoder[a].special}
    assert {t.content for t in ours.get_added_tokens_decoder().values() if t.special} == special


# ----------------------------------------------------------------------------------------------- files that are no good

WORDS = {"vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n"}
PAIRS = {"vocab.json": {"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}, "merges.txt": "a b\n"}
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"vocab.txt": "[PAD]\n[CLS]\n"}, {"tokenizer_class": "BertTokenizer", "sep_token": None}, "'sep_token'"),
    ({"vocab.txt": b"\xff\n"}, {"tokenizer_class": "BertTokenizer"}, r"vocab\.txt: .*can't decode"),
    ({"vocab.txt": "<html>\n"}, {"tokenizer_class": "BertTokenizer"}, r"vocab\.txt: is a web page"),
    (WORDS, {"tokenizer_class": "BertTokenizer", "do_lower_case": "yes"}, "do_lower_case must be true or false"),
    (WORDS, {"tokenizer_class": 3}, "tokenizer_class must be a string, not 3"),
    (
        WORDS,
        {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": {"9": {"content": "x"}}},
        "token 'x' is stated to be 9, but would be 6",
    ),
    (
        PAIRS | {"merges.txt": "a b\nabc\n"},
        {"tokenizer_class": "GPT2Tokenizer"},
        r"merges\.txt: line 2 'abc' is not two",
    ),
    (PAIRS | {"vocab.json": {"a": "0"}}, {"tokenizer_class": "GPT2Tokenizer"}, "token 'a' must have an id, not '0'"),
    (PAIRS | {"vocab.json": []}, {"tokenizer_class": "GPT2Tokenizer"}, r"vocab\.json: is not a JSON object"),
    ({"tokenizer.model": b""}, {"tokenizer_class": "LlamaTokenizer"}, r"tokenizer\.model: is empty"),
    ({"tokenizer.model": b"\x0a\xff"}, {"tokenizer_class": "LlamaTokenizer"}, "is not a model of sentencepiece: "),
    ({"tokenizer.model": b"\x0a\x05\x0a"}, {"tokenizer_class": "LlamaTokenizer"}, "sentencepiece: it is cut short"),
    ({"tokenizer.model": b"version https://git-lfs"}, {"tokenizer_class": "LlamaTokenizer"}, "is a pointer of git-lfs"),
    (
        {"tokenizer.model": b"IQ== 0\nIg== 1\n"},
        {"tokenizer_class": "LlamaTokenizer"},
        r"tokenizer\.model: is a file of tiktoken, not of sentencepiece",
    ),
    (
        {"sentencepiece.bpe.model": b""},
        {"tokenizer_class": "NllbTokenizer"},
        "needs an added_tokens_decoder with the ids of the languages",
    ),
]


@pytest.mark.parametrize(("files", "config", "message"), REFUSED, ids=[m for *_, m in REFUSED])
def test_what_is_not_read_is_refused_by_name(tmp_path: Path, files: Any, config: Any, message: str) -> None:
    write(tmp_path, files | {"tokenizer_config.json": config})
    with pytest.raises(LoadError, match=message) as e:
        tokenizer_of_files(tmp_path)
    assert str(e.value).startswith(str(tmp_path)) and "\n" not in str(e.value) and len(str(e.value)) < 1000


@pytest.mark.parametrize(
    ("files", "config", "why"),
    [
        (
            {"vocab.txt": "a\n"},
            {"tokenizer_class": "XTokenizer"},
            "tokenizer_class 'XTokenizer' is not supported; supp",
        ),
        (WORDS, {}, ""),
        ({"vocab.json": {}}, {"tokenizer_class": "GPT2TokenizerFast"}, "GPT2Tokenizer needs merges.txt"),
        (
            {"vocab.txt": ""},
            {"tokenizer_class": "T5Tokenizer"},
            "T5Tokenizer needs tokenizer.model or spiece.model or ",
        ),
    ],
)
def test_what_is_not_known_is_no_tokenizer_and_says_why(tmp_path: Path, files: Any, config: Any, why: str) -> None:
    write(tmp_path, files | {"tokenizer_config.json": config})
    assert tokenizer_of_files(tmp_path) is None
    assert why_not(tmp_path).startswith(why) and bool(why) == bool(why_not(tmp_path))


def test_every_byte_of_a_model_of_sentencepiece_may_be_wrong(tmp_path: Path) -> None:
    """It is read, or refused."""
    raw, rng = bytearray(spm("bpe", **LLAMA)), random.Random(0)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    refused = 0
    for _ in range(150):
        bad = bytearray(raw)
        bad[rng.randrange(len(bad))] = rng.randrange(256)
        (tmp_path / "tokenizer.model").write_bytes(bad[: rng.randrange(len(bad))] if rng.random() < 0.3 else bad)
        try:
            tokenizer_of_files(tmp_path)
        except LoadError:
            refused += 1
    assert 10 < refused < 150


def test_a_folder_that_names_no_class_is_of_its_model_s(tmp_path: Path) -> None:
    folder = folder_of("BertTokenizer", tmp_path)
    stated = tokenizer_of_files(folder)
    (folder / "tokenizer_config.json").unlink()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    assert tokenizer_of_files(folder) == stated
    (folder / "config.json").write_text('{"model_type": "x", "tokenizer_class": "BertTokenizerFast"}')
    assert tokenizer_of_files(folder) == stated
    assert tokenizer_of_files(tmp_path / "nowhere") is None


def test_older_files_add_their_tokens(tmp_path: Path) -> None:
    folder = folder_of("BertTokenizer", tmp_path)
    stated = {"tokenizer_class": "BertTokenizer", "additional_special_tokens": ["[E1]"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    (folder / "special_tokens_map.json").write_text('{"cls_token": "[CLS]"}')
    size = len((folder / "vocab.txt").read_text().splitlines())
    (folder / "added_tokens.json").write_text(json.dumps({"[E1]": size, "Covid": size + 1}))
    theirs = transformers.BertTokenizer.from_pretrained(folder)
    ours = tokenizers.Tokenizer.from_str(tokenizer_of_files(folder) or "")
    for text in ("[E1] the covid Covid [E1]x", "COVID"):
        assert ours.encode(text).ids == theirs(text).input_ids
    assert ours.decode([size, size + 1]) == theirs.decode([size, size + 1], skip_special_tokens=True)


def marian(folder: Path) -> Path:
    """A translator's files: pieces of two languages, with one list of numbers."""
    source, target = spm("unigram"), spm("bpe", vocab_size=200)
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    pieces = [p.piece for raw in (source, target) for p in protobuf_of(raw).pieces if p.type == 1]
    names = dict.fromkeys(["</s>", "<unk>", ">>fr<<", *reversed(pieces), "Ω", "<pad>"])
    write(folder, {"vocab.json": {t: i for i, t in enumerate(names)}, "tokenizer_config.json": {}})
    write(folder, {"config.json": {"model_type": "marian"}})
    return folder


def test_a_translator_s_numbers_are_those_of_its_list(tmp_path: Path) -> None:
    folder = marian(tmp_path)
    theirs = transformers.MarianTokenizer.from_pretrained(folder)
    ours = tokenizers.Tokenizer.from_str(tokenizer_of_files(folder) or "")
    for text in (t for t in texts(150) if not any(s in t for s in ("</s>", "<unk>", "<pad>"))):
        ids = theirs(text).input_ids
        assert ours.encode(text).ids == ids, text
        assert ours.decode(ids).strip() == theirs.decode(ids, skip_special_tokens=True), text
    assert ours.encode(">>fr<< the coats").ids == theirs(">>fr<< the coats").input_ids
    omega = ours.encode("Ω").ids
    assert omega[-2] == ours.token_to_id("<unk>"), "a letter of the target alone is unknown here, and a token there"
    vocabulary = json.loads((folder / "vocab.json").read_text())
    assert ours.decode([vocabulary["Ω"]]) == "Ω"
    for changes, message in (({"x": 9999}, "the ids are not 0 to"), ({"<unk>": None}, "token '<unk>' must have an id")):
        write(folder, {"vocab.json": vocabulary | changes})
        with pytest.raises(LoadError, match=message):
            tokenizer_of_files(folder)
    write(folder, {"vocab.json": vocabulary, "tokenizer_config.json": {"separate_vocabs": True}})
    with pytest.raises(LoadError, match="separate_vocabs true is not supported"):
        tokenizer_of_files(folder)


def test_every_kind_has_a_case() -> None:
    aliases = {"MarianTokenizer", "CodeGenTokenizer", "CodeLlamaTokenizer"}  # of one function with those that have
    aliases |= {f"{n}Tokenizer" for n in "Electra MobileBert ConvBert LayoutLM Bart Longformer LED Mvp".split()}
    assert KINDS.keys() - {case.split()[0] for case in CASES} == aliases
