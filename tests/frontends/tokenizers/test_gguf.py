"""Tokenizers read from GGUF: the ids of the tokenizer that was stored, and of GPT-2's algorithm written plainly."""

import itertools
import json
import random
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import regex
import tokenizers
from gguf import GGUFWriter
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers

from burnish.frontends.config import LoadError
from burnish.frontends.gguf_file import GgufFile, read_gguf
from burnish.frontends.tokenizers.gguf import gguf_tokenizer
from burnish.runtime.token_bytes import token_bytes

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)  # llama_token_type
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

# The patterns stand in llama.cpp's src/llama-vocab.cpp; each splits what the one before has left whole.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = {
    "smollm": [r"\p{N}", GPT2],
    "gpt-2": [GPT2],
    "llama-bpe": [LLAMA3],
    "qwen2": [LLAMA3.replace("{1,3}", "")],
}
#: names of the same pattern, and one of a pattern of its own
OTHERS = {
    "starcoder": PATTERNS["smollm"],
    "phi-2": PATTERNS["gpt-2"],
    "falcon3": PATTERNS["llama-bpe"],
    "dbrx": PATTERNS["llama-bpe"],
    "stablelm2": PATTERNS["qwen2"],
    "qwen35": [
        LLAMA3.replace("{1,3}", "").replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}", r"[^\s\p{L}\p{M}")
    ],
}

CORPUS = (
    "The 17 tailors, it's said, couldn't sew 1234 coats in 3.5 hours; WE'LL see, they'd say.\n\n    def f(x):\n        "
    "return x ** 2  # größer, café, naïve\r\n"
    "日本語と한국어 и русский, العربية ١٢٣ ½ x²³ 🙂👩‍👩‍👧 e\u0301\u00a0\u3000\ttabs\t\n"
) * 3
TEXTS = [
    "",
    " ",
    "hello world",
    "  two  spaces  ",
    "it's IT'S we'll WE'LL they'Ve",
    "12345 1,234.5 ١٢٣ ½ x²³ 007",
    "a\n\n\n  b\r\n\tc \n",
    "größer café cafe\u0301 ﬁ Å",
    "日本語と한국어 русский العربية",
    "🙂👩‍👩‍👧🇩🇪",
    "\u00a0\u3000\u200b\u2028",
    "<|im_start|>user\nhi<|im_end|> <|endoftext|>",
    "<|im_start |> <tool> x<tool>y <tool",
    "\x00\x7f\ufffd",
]


def random_texts(n: int, special: Sequence[str] = SPECIAL) -> Iterator[str]:
    """Of many scripts, spaces and marks; with what special tokens are called."""
    rng = random.Random(0)
    pieces = [*"abcXYZ 019 \n\t\r'.,!?-_é", *"  |'s|'LL|②|½|ﬁ|日本|한|🙂|e\u0301|\u00a0".split("|"), *special]
    for _ in range(n):
        yield "".join(rng.choices(pieces, k=rng.randint(1, 30)))


def trained(pre: str) -> tokenizers.Tokenizer:
    """A tokenizer of 400 tokens as its makers would build it, with the library's own classes."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=pre == "llama-bpe"))
    split = PATTERNS[pre][-1].replace(
        "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    )
    match pre:
        case "smollm":
            steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        case "gpt-2":
            steps = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
        case _:
            byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            steps = [pre_tokenizers.Split(Regex(split), "isolated"), byte_level]
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(keepends=True), trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    return tokenizer


def metadata_of(tokenizer: tokenizers.Tokenizer, pre: str) -> dict[str, object]:
    """The keys, as llama.cpp's converter makes them."""
    own = json.loads(tokenizer.to_str())
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    kinds = [CONTROL if t in SPECIAL else USER if t == "<tool>" else NORMAL for t in tokens]
    return {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": kinds,
        "merges": [" ".join(pair) for pair in own["model"]["merges"]],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "padding_token_id": 2,
        "add_bos_token": False,
        "add_space_prefix": False,
    }


@pytest.fixture(scope="module", params=PATTERNS)
def pre(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def stored(pre) -> tokenizers.Tokenizer:
    return trained(pre)


@pytest.fixture(scope="module")
def file(pre, stored, tmp_path_factory) -> GgufFile:
    """The tokenizer in a file that gguf-py writes."""
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    writer = GGUFWriter(path, "llama")
    for key, value in metadata_of(stored, pre).items():
        add = {str: writer.add_string, int: writer.add_uint32, bool: writer.add_bool, list: writer.add_array}[
            type(value)
        ]
        add(f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_gguf(path)


def test_ids_are_those_of_the_tokenizer_that_was_stored(file, stored) -> None:
    read = tokenizers.Tokenizer.from_str(gguf_tokenizer(file))
    for text in [*TEXTS, CORPUS, *random_texts(200)]:
        ids = read.encode(text).ids
        assert ids == stored.encode(text).ids, text
        for skip in (False, True):
            assert read.decode(ids, skip_special_tokens=skip) == stored.decode(ids, skip_special_tokens=skip)


def test_ids_are_those_of_the_algorithm(file, pre) -> None:
    read = tokenizers.Tokenizer.from_str(gguf_tokenizer(file))
    for text in [*TEXTS, CORPUS, *random_texts(200)]:
        assert read.encode(text).ids == list(naive(file, pre, text)), text


@pytest.mark.parametrize("pre", OTHERS)
def test_ids_of_other_names_are_those_of_their_pattern(pre, tmp_path) -> None:
    keys = metadata_of(trained("qwen2"), pre)
    keys |= {name: tuple(keys[name]) for name in ("tokens", "merges")}
    keys["token_type"] = np.array(keys["token_type"])
    file = GgufFile(tmp_path / "a.gguf", {f"tokenizer.ggml.{k}": v for k, v in keys.items()}, {})
    read = tokenizers.Tokenizer.from_str(gguf_tokenizer(file))
    for text in [*TEXTS, CORPUS, "हिन्दी में ก็ e\u0301\u0301!\u0301", *random_texts(100)]:
        assert read.encode(text).ids == list(naive(file, pre, text)), text


def naive(file: GgufFile, pre: str, text: str) -> Iterator[int]:
    """GPT-2's encoder (openai/gpt-2, src/encoder.py) with llama.cpp's patterns."""
    tokens = file.metadata["tokenizer.ggml.tokens"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    ranks = {tuple(m.split(" ")): i for i, m in enumerate(file.metadata["tokenizer.ggml.merges"])}
    for part in regex.split("(" + "|".join(map(regex.escape, [*SPECIAL, "<tool>"])) + ")", text):
        if part in (*SPECIAL, "<tool>"):
            yield vocabulary[part]
            continue
        words = [unicodedata.normalize("NFC", part) if pre in ("qwen2", "qwen35") else part]
        for pattern in (PATTERNS | OTHERS)[pre]:  # what lies between matches is a word too
            words = [w for word in words for w in regex.split(f"({pattern})", word) if w]
        for word in words:
            letters = "".join(LETTERS[b] for b in word.encode())
            whole = pre in ("llama-bpe", "falcon3") and letters in vocabulary
            yield from (vocabulary[t] for t in ([letters] if whole else joined(list(letters), ranks)))


def joined(parts: list[str], ranks: dict[tuple[str, ...], int]) -> list[str]:
    while pairs := [(ranks[pair], i) for i, pair in enumerate(itertools.pairwise(parts)) if pair in ranks]:
        _, i = min(pairs)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
LETTERS = {b: chr(b) for b in PRINTABLE}
LETTERS |= {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in PRINTABLE)}


def test_the_bytes_of_each_token(file) -> None:
    read = token_bytes(gguf_tokenizer(file))
    reverse = {c: b for b, c in LETTERS.items()}
    for i, token in enumerate(file.metadata["tokenizer.ggml.tokens"]):
        plain = token.encode() if token in (*SPECIAL, "<tool>") else bytes(reverse[c] for c in token)
        assert read[i] == plain


# ------------------------------------------------------------------------------------------------------ without a file

SMALL = {
    "model": "gpt2",
    "pre": "gpt-2",
    "tokens": ("a", "b", "ab", "<s>", "</s>", "<x>", "[PAD6]"),
    "token_type": np.array([NORMAL, NORMAL, NORMAL, CONTROL, CONTROL, USER, UNUSED]),
    "merges": ("a b",),
    "bos_token_id": 3,
    "eos_token_id": 4,
}


def of(tmp_path, changes=None, **others) -> GgufFile:
    keys = {f"tokenizer.ggml.{k}": v for k, v in (SMALL | (changes or {})).items() if v is not None}
    return GgufFile(tmp_path / "model.gguf", keys | others, {})


def ids(tmp_path, text: str, pair: str | None = None, **changes) -> list[int]:
    return tokenizers.Tokenizer.from_str(gguf_tokenizer(of(tmp_path, changes))).encode(text, pair).ids


def test_first_and_last_tokens(tmp_path) -> None:
    assert ids(tmp_path, "abba") == [2, 1, 0]
    assert ids(tmp_path, "ab", add_bos_token=True) == [3, 2]
    assert ids(tmp_path, "ab", add_bos_token=True, add_eos_token=True) == [3, 2, 4]
    assert ids(tmp_path, "ab", "b", add_bos_token=True) == [3, 2, 3, 1]
    assert ids(tmp_path, "ab", add_eos_token=True, bos_token_id=None) == [2, 4]


@pytest.mark.parametrize(
    ("pre", "added"), [("llama-bpe", [3]), ("llama3", [3]), ("llama-v3", [3]), ("smollm", []), ("qwen2", [])]
)
def test_whether_a_first_token_is_added_where_the_file_does_not_say(tmp_path, pre, added) -> None:
    assert ids(tmp_path, "ab", pre=pre) == [*added, 2]
    assert ids(tmp_path, "ab", pre=pre, add_bos_token=False) == [2]


def test_control_tokens_are_special_and_those_of_users_are_not(tmp_path) -> None:
    read = tokenizers.Tokenizer.from_str(gguf_tokenizer(of(tmp_path)))
    assert read.encode("a<x>b<s>").ids == [0, 5, 1, 3]
    assert read.decode([0, 5, 1, 3]) == "a<x>b"
    assert read.decode([0, 5, 1, 3], skip_special_tokens=False) == "a<x>b<s>"


def test_a_token_that_fills_the_table_is_none(tmp_path) -> None:
    read = tokenizers.Tokenizer.from_str(gguf_tokenizer(of(tmp_path)))
    assert read.token_to_id("[PAD6]") is None and read.get_vocab_size() == 6


def test_a_merge_may_begin_with_a_space(tmp_path) -> None:
    changes = {"tokens": (" ", "b", " b"), "merges": ("  b",), "token_type": [NORMAL] * 3}
    assert json.loads(gguf_tokenizer(of(tmp_path, changes)))["model"]["merges"] == [[" ", "b"]]


def test_a_whole_tokenizer_in_the_file_is_taken_as_it_is(tmp_path) -> None:
    text = json.dumps({"model": {"type": "WordLevel", "vocab": {"ä": 0}, "unk_token": "ä"}}, ensure_ascii=False)
    assert gguf_tokenizer(of(tmp_path, {"model": "llama"}, **{"tokenizer.huggingface.json": text})) == text


REFUSED = [
    ({"model": "rwkv"}, "model 'rwkv' is not supported; supported are gpt2, llama, t5, bert"),
    ({"model": "bert"}, r"merges = \('a b',\) is not supported"),
    ({"model": None}, "model is missing"),
    (
        {"pre": "tekken"},
        "pre 'tekken' is not supported; supported are smollm, starcoder, refact, command-r, codeshell, exaone, gpt-2,",
    ),
    ({"pre": "default"}, "pre 'default' is not supported"),
    ({"pre": None}, "pre is missing"),
    ({"pre": ["gpt-2"]}, "pre .* is not supported"),
    ({"add_space_prefix": True}, "add_space_prefix = True is not supported"),
    ({"add_space_prefix": 1}, "add_space_prefix must be true or false, not 1"),
    ({"remove_extra_whitespaces": True}, "remove_extra_whitespaces = True is not supported"),
    ({"add_sep_token": True}, "add_sep_token = True is not supported"),
    ({"precompiled_charsmap": np.arange(90)}, r"precompiled_charsmap = \[0, 1, .*… is not supported"),
    ({"no_such_key": 1}, "no_such_key = 1 is not supported"),
    ({"tokens": None}, "tokens must be a list of strings"),
    ({"tokens": np.arange(7)}, "tokens must be a list of strings"),
    ({"tokens": ()}, "tokens must be a list of strings"),
    ({"token_type": None}, "token_type must be 7 numbers, one for each token"),
    ({"token_type": np.ones(6, int)}, "token_type must be 7 numbers"),
    ({"token_type": ("1",) * 7}, "token_type must be 7 numbers"),
    ({"token_type": np.full(7, BYTE)}, "token 0 'a' is of type 6, which byte-level BPE has not"),
    ({"token_type": np.full(7, UNKNOWN)}, "token 0 'a' is of type 2"),
    ({"token_type": np.full(7, np.nan)}, "token 0 'a' is of type nan"),
    ({"tokens": ("a", "b", "ab", "<s>", "</s>", "", "p")}, "token 5 is empty"),
    ({"tokens": ("a", "b", "ab", "<s>", "</s>", "<s>", "p")}, "'<s>' is the text of tokens 3 and 5"),
    ({"merges": None}, "merges must be a list of strings"),
    ({"merges": ()}, "merges must be a list of strings"),
    ({"merges": ("ab",)}, "merge 0 'ab' does not join two tokens to one"),
    ({"merges": ("a b", "b a")}, "merge 1 'b a' does not join two tokens to one"),
    ({"merges": (" ab",)}, "merge 0 ' ab' does not join two tokens to one"),
    ({"merges": ("a c",)}, "merge 0 'a c' does not join"),
    ({"merges": ("",)}, "merge 0 '' does not join"),
    ({"add_bos_token": True, "bos_token_id": None}, "bos_token_id is missing"),
    ({"add_bos_token": True, "bos_token_id": 7}, "bos_token_id must be an integer from 0 to 6, not 7"),
    ({"add_eos_token": True, "eos_token_id": -1}, "eos_token_id must be an integer from 0 to 6"),
    ({"add_eos_token": "yes"}, "add_eos_token must be true or false"),
]


@pytest.mark.parametrize(
    ("changes", "message"), REFUSED, ids=[" ".join(c) + f" {i}" for i, (c, _) in enumerate(REFUSED)]
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, changes, message) -> None:
    with pytest.raises(LoadError, match=message) as e:
        gguf_tokenizer(of(tmp_path, changes))
    text = str(e.value)
    assert text.startswith(f"{tmp_path}/model.gguf: ") and "\n" not in text and len(text) < 500


def test_a_file_without_a_tokenizer_is_refused(tmp_path) -> None:
    with pytest.raises(LoadError, match=r"tokenizer.ggml.model is missing"):
        gguf_tokenizer(GgufFile(tmp_path / "model.gguf", {}, {}))
