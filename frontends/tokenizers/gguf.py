"""The tokenizer of a GGUF file as a `tokenizer.json`: byte-level BPE with pre-tokenizers that are known by name, the
byte pairs and the unigrams of sentencepiece, and BERT's word pieces.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; what is meant when they are missing is llama.cpp's
(`src/llama-vocab.cpp`), and so is how a text is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from burnish.frontends.config import Config, LoadError, shown
from burnish.frontends.gguf_file import GgufFile
from burnish.frontends.gguf_names import plain
from burnish.frontends.tokenizers.parts import (
    BERT_SPLIT,
    BYTES,
    QWEN2_SPLIT,
    SPACE,
    WORDPIECE_DECODER,
    Part,
    bert_normalizer,
    bpe,
    byte_level,
    charsmap,
    derived_merges,
    metaspace,
    replace,
    sentencepiece_decoder,
    sequence,
    split,
    template,
    tokenizer_json,
    unigram,
    word_pieces,
)
from burnish.frontends.tokenizers.sentencepiece_file import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER

__all__ = ["gguf_tokenizer"]


@dataclass(frozen=True)
class _Pre:
    """What the name of a pre-tokenizer stands for."""

    steps: tuple[Part, ...]
    normalizer: Part | None = None
    whole_words: bool = False  # a word that is a token is not put together from others
    add_bos: bool = False  # where the file does not say


# A file has only names, given by llama.cpp's converter, of patterns that stand in its src/llama-vocab.cpp.
_LLAMA3 = QWEN2_SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|")
_QWEN35 = QWEN2_SPLIT.replace(r"?\p{L}+|", r"?[\p{L}\p{M}]+|").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")
_DIGITS: Part = {"type": "Digits", "individual_digits": True}
_PRE = {
    **dict.fromkeys("smollm starcoder refact command-r codeshell exaone".split(), _Pre((_DIGITS, byte_level()))),
    **dict.fromkeys("gpt-2 phi-2 mpt olmo jais".split(), _Pre((byte_level(),))),
    **dict.fromkeys("llama-bpe llama3 llama-v3 falcon3 lfm2".split(), _Pre((split(_LLAMA3), BYTES), None, True, True)),
    **dict.fromkeys("dbrx smaug-bpe".split(), _Pre((split(_LLAMA3), BYTES))),
    **dict.fromkeys("stablelm2 deepseek-r1-qwen".split(), _Pre((split(QWEN2_SPLIT), BYTES))),
    "qwen2": _Pre((split(QWEN2_SPLIT), BYTES), {"type": "NFC"}),
    "qwen35": _Pre((split(_QWEN35), BYTES), {"type": "NFC"}),
}

_KEY = "tokenizer.ggml."
#: what all read; names of further tokens, and counts
_INERT = """
    model tokens token_type token_type_count padding_token_id mask_token_id eot_token_id eom_token_id
    fim_pre_token_id fim_suf_token_id fim_mid_token_id fim_pad_token_id fim_rep_token_id
    fim_sep_token_id prefix_token_id suffix_token_id middle_token_id
""".split()
_ENDS = "bos_token_id eos_token_id add_bos_token add_eos_token".split()
#: what the kinds read, beside the tokens and their types; and what has no meaning for them
_READ = {
    "gpt2": (["pre", "merges", *_ENDS], "scores unknown_token_id seperator_token_id cls_token_id".split()),
    "llama": (
        ["scores", "unknown_token_id", "add_space_prefix", *_ENDS],
        "pre merges seperator_token_id cls_token_id".split(),
    ),
    "t5": (
        "scores unknown_token_id add_space_prefix remove_extra_whitespaces precompiled_charsmap".split() + _ENDS,
        "pre seperator_token_id cls_token_id".split(),
    ),
    "bert": (
        "unknown_token_id seperator_token_id cls_token_id bos_token_id normalizer.lowercase".split(),
        "pre scores eos_token_id add_bos_token add_eos_token add_sep_token".split(),
    ),
}
_WHOLE = (CONTROL, USER, UNKNOWN)
#: what would change ids, if it were true, for those that do not read it
_FALSE = "add_space_prefix add_sep_token remove_extra_whitespaces".split()


def gguf_tokenizer(file: GgufFile) -> str:
    """The text of a `tokenizer.json`; where the file has one in it, that, unread.

    Raises LoadError for another kind of tokenizer, a pre-tokenizer that is not known, and lists that do not agree.
    """
    own = file.metadata.get("tokenizer.huggingface.json")
    if isinstance(own, str):
        return own
    keys = Config({k: plain(v) for k, v in file.metadata.items() if k.startswith(_KEY)}, str(file.path))
    kind = keys.choice(f"{_KEY}model", _KINDS)
    read, inert = _READ[kind]
    for key, value in keys.values.items():
        name = key.removeprefix(_KEY)
        known = name in (*read, *inert, *_INERT)
        if not known and (name not in _FALSE or keys.flag(key, False)):
            raise LoadError(f"{keys.where}: {key} = {shown(value)} is not supported")
    return _KINDS[kind](_Tokens.of(keys, kind))


@dataclass(frozen=True)
class _Tokens:
    """The text of each token, and its type."""

    keys: Config
    texts: tuple[str, ...]
    types: list[int]

    @classmethod
    def of(cls, keys: Config, kind: str) -> _Tokens:
        texts = _strings(keys, "tokenizer.ggml.tokens")
        types = keys.values.get(f"{_KEY}token_type")
        if types is None and kind == "bert":  # older files: all are as they look
            types = [CONTROL if t.startswith("[") and t.endswith("]") else NORMAL for t in texts]
        if not isinstance(types, list) or len(types) != len(texts):
            raise LoadError(f"{keys.where}: {_KEY}token_type must be {len(texts)} numbers, one for each token")
        allowed = (NORMAL, CONTROL, USER, UNUSED) if kind == "gpt2" else tuple(range(NORMAL, BYTE + 1))
        if {*types} <= {*allowed} and all(texts) and len({*texts}) == len(texts):
            return cls(keys, texts, types)
        known: dict[str, int] = {}
        for i, (text, type) in enumerate(zip(texts, types, strict=True)):
            if type not in allowed:
                what = "byte-level BPE" if kind == "gpt2" else f"a tokenizer {kind!r}"
                raise LoadError(f"{keys.where}: token {i} {shown(text)} is of type {type}, which {what} has not")
            if not text:
                raise LoadError(f"{keys.where}: token {i} is empty")
            if known.setdefault(text, i) != i:
                raise LoadError(f"{keys.where}: {shown(text)} is the text of tokens {known[text]} and {i}")
        raise AssertionError("one of them is at fault")

    @property
    def ids(self) -> dict[str, int]:
        """The ids of those that are used."""
        return {t: i for i, (t, type) in enumerate(zip(self.texts, self.types, strict=True)) if type != UNUSED}

    @property
    def added(self) -> list[Part]:
        """Those that are found in a text as they stand; control tokens are left out when ids are decoded."""
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        found = [(i, t, k) for i, (t, k) in enumerate(zip(self.texts, self.types, strict=True)) if k in _WHOLE]
        return [{"id": i, "content": t, **flags, "special": k != USER} for i, t, k in found]

    def scores(self) -> list[float]:
        """Of each token."""
        found = self.keys.values.get(f"{_KEY}scores")
        numbers = isinstance(found, list) and all(isinstance(x, int | float) and abs(x) < 1e30 for x in found)
        if not isinstance(found, list) or not numbers or len(found) != len(self.texts):
            raise LoadError(f"{self.keys.where}: {_KEY}scores must be {len(self.texts)} numbers, one for each token")
        return [float(x) for x in found]

    def token(self, name: str, default: int | None = None) -> int:
        """The id of a token that has a name."""
        return self.keys.integer(f"{_KEY}{name}_token_id", default, least=0, most=len(self.texts) - 1)

    def flag(self, name: str, default: bool) -> bool:
        """A setting."""
        return self.keys.flag(f"{_KEY}{name}", default)

    def ends(self, bos: bool, eos: bool, bos_id: int | None = None, eos_id: int | None = None) -> Part | None:
        """The first and the last token, by what is said, or as given."""
        first = self.token("bos", bos_id) if self.flag("add_bos_token", bos) else None
        last = self.token("eos", eos_id) if self.flag("add_eos_token", eos) else None
        return self.around(first, last)

    def around(self, first: int | None, last: int | None) -> Part | None:
        """What puts a first and a last token around each text."""
        begin, end = ([] if i is None else [self.texts[i]] for i in (first, last))
        return template({t: i for i, t in enumerate(self.texts)}, [*begin, "$A", *end])


def _strings(keys: Config, key: str) -> tuple[str, ...]:
    value = keys.values.get(key)
    if not isinstance(value, tuple) or not value:
        raise LoadError(f"{keys.where}: {key} must be a list of strings")
    return value


def _byte_level(tokens: _Tokens) -> str:
    pre = _PRE[tokens.keys.choice(f"{_KEY}pre", _PRE)]
    ids = tokens.ids
    return tokenizer_json(
        bpe(ids, _merges(tokens.keys, ids), ignore_merges=pre.whole_words),
        added=tokens.added,
        normalizer=pre.normalizer,
        pre_tokenizer={"type": "Sequence", "pretokenizers": list(pre.steps)},
        post_processor=tokens.ends(pre.add_bos, False),
        decoder=BYTES,
    )


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


def _sentencepiece_pairs(tokens: _Tokens) -> str:
    """Joined by the score of the result; a space is put before each text, behind special tokens too."""
    ids, scores, space = tokens.ids, tokens.scores(), tokens.flag("add_space_prefix", True)
    apart = {t for t, type in zip(tokens.texts, tokens.types, strict=True) if type in (CONTROL, UNKNOWN, BYTE)}
    merges = derived_merges(ids, lambda token: -scores[ids[token]], apart)
    unknown = tokens.texts[tokens.token("unknown", 0)]
    prepend: Part | None = {"type": "Prepend", "prepend": SPACE} if space else None
    return tokenizer_json(
        bpe(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True),
        added=tokens.added,
        normalizer=sequence("normalizers", [prepend, replace(" ", SPACE)]),
        post_processor=tokens.ends(True, False, 1, 2),
        decoder=sentencepiece_decoder(strip=space),
    )


def _sentencepiece_unigrams(tokens: _Tokens) -> str:
    map_ = tokens.keys.values.get(f"{_KEY}precompiled_charsmap") or []
    if not isinstance(map_, list) or not all(isinstance(b, int) and -128 <= b < 256 for b in map_):
        raise LoadError(f"{tokens.keys.where}: {_KEY}precompiled_charsmap must be a list of bytes")
    scheme = "always" if tokens.flag("add_space_prefix", True) else "never"
    words: Part | None = {"type": "WhitespaceSplit"} if tokens.flag("remove_extra_whitespaces", True) else None
    pieces = list(zip(tokens.texts, tokens.scores(), strict=True))
    return tokenizer_json(
        unigram(pieces, tokens.token("unknown", 2)),
        added=tokens.added,
        normalizer=charsmap(bytes(b & 0xFF for b in map_)),
        pre_tokenizer=sequence("pretokenizers", [words, metaspace(scheme)]),
        post_processor=tokens.ends(False, True, 0, 1),
        decoder=metaspace(scheme),
    )


def _word_pieces(tokens: _Tokens) -> str:
    """A file writes the beginning of a word as `▁word` and the inside bare; here it is `word` and `##inside`."""
    texts = [
        text if type != NORMAL else text.removeprefix(SPACE) if text.startswith(SPACE) else f"##{text}"
        for text, type in zip(tokens.texts, tokens.types, strict=True)
    ]
    own = _Tokens(tokens.keys, tuple(texts), tokens.types)
    lower = tokens.flag("normalizer.lowercase", True)
    first = tokens.token("cls" if tokens.keys.has(f"{_KEY}cls_token_id") else "bos", 101)
    return tokenizer_json(
        word_pieces(own.ids, texts[tokens.token("unknown", 100)]),
        added=own.added,
        normalizer=bert_normalizer(lower, None, True),
        pre_tokenizer=BERT_SPLIT,
        post_processor=own.around(first, tokens.token("seperator", 102)),
        decoder=WORDPIECE_DECODER,
    )


_KINDS: dict[str, Callable[[_Tokens], str]] = {
    "gpt2": _byte_level,
    "llama": _sentencepiece_pairs,
    "t5": _sentencepiece_unigrams,
    "bert": _word_pieces,
}
