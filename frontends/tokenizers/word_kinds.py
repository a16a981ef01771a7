"""Tokenizers of lists of words and of merges, by the classes of transformers that read them."""

from __future__ import annotations

from burnish.frontends.tokenizers.kind import BERT, FAIRSEQ, Files, Made, bert_ends, kind
from burnish.frontends.tokenizers.parts import (
    BERT_SPLIT,
    BYTES,
    QWEN2_SPLIT,
    WORDPIECE_DECODER,
    Part,
    bert_normalizer,
    bpe,
    byte_level,
    roberta_ends,
    sequence,
    split,
    word_pieces,
)

__all__: list[str] = []


# ---------------------------------------------------------------------------------------------------------- word pieces


@kind(
    "BertTokenizer DistilBertTokenizer ElectraTokenizer MobileBertTokenizer ConvBertTokenizer LayoutLMTokenizer",
    "vocab.txt",
    **BERT,
)
def _bert(files: Files) -> Made:
    ids = files.words()
    return Made(
        word_pieces(ids, files["unk_token"]),
        ids,
        _bert_normalizer(files),
        BERT_SPLIT,
        WORDPIECE_DECODER,
        bert_ends(files),
    )


def _bert_normalizer(files: Files) -> Part:
    accents = files.settings.get("strip_accents")
    chinese, lower = files.flag("tokenize_chinese_chars", True), files.flag("do_lower_case", True)
    return bert_normalizer(lower, None if accents is None else files.flag("strip_accents", False), chinese)


@kind(
    "MPNetTokenizer",
    "vocab.txt",
    bos="<s>",
    eos="</s>",
    unk="[UNK]",
    sep="</s>",
    pad="<pad>",
    cls="<s>",
    mask={"content": "<mask>", "lstrip": True},
)
def _mpnet(files: Files) -> Made:
    made = _bert(files)
    made.ends = lambda ids: roberta_ends(ids, files["cls_token"], files["sep_token"])
    return made


# ------------------------------------------------------------------------------------------------ byte pairs over bytes

_END = "<|endoftext|>"


@kind("GPT2Tokenizer CodeGenTokenizer", "vocab.json", "merges.txt", bos=_END, eos=_END, unk=_END)
def _gpt2(files: Files) -> Made:
    ids = files.vocabulary()
    before = byte_level(files.flag("add_prefix_space", False))
    return Made(bpe(ids, files.merges()), ids, None, before, byte_level())


@kind("GPTNeoXTokenizer", "vocab.json", "merges.txt", bos=_END, eos=_END, unk=_END, pad="<|padding|>")
def _gpt_neox(files: Files) -> Made:
    made = _gpt2(files)
    made.normalizer = {"type": "NFC"}
    return made


@kind("Qwen2Tokenizer", "vocab.json", "merges.txt", unk=_END, eos=_END, pad=_END)
def _qwen2(files: Files) -> Made:
    ids = files.vocabulary()
    words = [split(QWEN2_SPLIT), {**BYTES, "add_prefix_space": files.flag("add_prefix_space", False)}]
    before = sequence("pretokenizers", words)
    return Made(bpe(ids, files.merges()), ids, {"type": "NFC"}, before, byte_level())


@kind(
    "RobertaTokenizer BartTokenizer LongformerTokenizer LEDTokenizer MvpTokenizer",
    "vocab.json",
    "merges.txt",
    **FAIRSEQ,
    mask="<mask>",
)
def _roberta(files: Files) -> Made:
    made = _gpt2(files)
    space = files.flag("add_prefix_space", False)
    made.ends = lambda ids: roberta_ends(ids, files["cls_token"], files["sep_token"], space)
    return made
