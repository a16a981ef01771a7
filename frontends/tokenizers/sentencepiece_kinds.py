"""Tokenizers of sentencepiece, and what fairseq, Marian and others have put around its pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.frontends.config import LoadError, shown
from burnish.frontends.tokenizers.config import Added, token_of
from burnish.frontends.tokenizers.kind import BERT, FAIRSEQ, SENTENCEPIECE, Files, Made, bert_ends, kind
from burnish.frontends.tokenizers.parts import (
    SPACE,
    Part,
    bpe,
    charsmap,
    derived_merges,
    metaspace,
    replace,
    sentencepiece_decoder,
    sequence,
    split,
    template,
    unigram,
)
from burnish.frontends.tokenizers.sentencepiece_file import CONTROL, NORMAL, USER, SentencePiece, read_sentencepiece

__all__ = ["llama_scheme"]


def _own_tokens(spm: SentencePiece) -> list[Added]:
    """Control pieces are special, those of users are not; both are found as they stand."""
    pairs = zip(spm.pieces, spm.types, strict=True)
    found = [(text, t == CONTROL) for (text, _), t in pairs if t in (CONTROL, USER)]
    return [{**token_of(text, ""), "special": special, "normalized": False} for text, special in found]


def _byte_pairs(spm: SentencePiece, ids: Mapping[str, int], **options: Any) -> Part:
    """Joined in the order of the ids, which is that of the scores."""
    return bpe(ids, derived_merges(ids, lambda token: ids[token]), **options)


@kind("LlamaTokenizer CodeLlamaTokenizer", SENTENCEPIECE, bos="<s>", eos="</s>", unk="<unk>")
def _llama(files: Files) -> Made:
    spm = files.sentencepiece()
    ids, space = spm.vocabulary, files.flag("add_prefix_space", True)
    model = _byte_pairs(spm, ids, fuse_unk=True, byte_fallback=True)
    scheme = llama_scheme(space, files.flag("legacy", False))
    made = Made(model, ids, None, metaspace(scheme, split=False), sentencepiece_decoder(strip=space))
    made.extra = _own_tokens(spm)
    return made


def llama_scheme(add_prefix_space: bool, legacy: bool) -> str:
    """Where a space is put before a text: behind special tokens too where the tokenizer is an older one."""
    return "never" if not add_prefix_space else "always" if legacy else "first"


@kind("GemmaTokenizer", SENTENCEPIECE, bos="<bos>", eos="<eos>", unk="<unk>", pad="<pad>", mask="<mask>")
def _gemma(files: Files) -> Made:
    spm = files.sentencepiece()
    ids = spm.vocabulary
    model = _byte_pairs(spm, ids, unk_token=files["unk_token"], fuse_unk=True, byte_fallback=True)
    before = split(" ", "MergedWithPrevious", regex=False)
    return Made(model, ids, replace(" ", SPACE), before, sentencepiece_decoder(strip=False), extra=_own_tokens(spm))


def _pieces(files: Files, pieces: Sequence[tuple[str, float]], unk_id: int, spm: SentencePiece) -> Made:
    """Unigrams over words that begin with a space, as most families have them."""
    scheme = "always" if files.flag("add_prefix_space", True) else "never"
    words: list[Part | None] = [{"type": "WhitespaceSplit"}, metaspace(scheme)]
    ids = {text: i for i, (text, _) in enumerate(pieces)}
    before = sequence("pretokenizers", words)
    return Made(unigram(pieces, unk_id), ids, charsmap(spm.charsmap), before, metaspace(scheme), extra=_own_tokens(spm))


def _free(*texts: str) -> list[tuple[str, float]]:
    return [(text, 0.0) for text in texts]


@kind("T5Tokenizer", SENTENCEPIECE, eos="</s>", unk="<unk>", pad="<pad>")
def _t5(files: Files) -> Made:
    spm = files.sentencepiece()
    count = files.settings.integer("extra_ids", 100, least=0, most=10_000)
    sentinels = [f"<extra_id_{i}>" for i in reversed(range(count))]
    made = _pieces(files, [*spm.pieces, *_free(*sentinels)], 2, spm)
    made.extra = [*made.extra, *(token_of(t, "") for t in sentinels)]
    made.ends = lambda ids: template(
        ids, f"$A {files['eos_token']}", f"$A {files['eos_token']} $B {files['eos_token']}"
    )
    return made


@kind("XLMRobertaTokenizer", SENTENCEPIECE, **FAIRSEQ, mask="<mask>")
def _xlm_roberta(files: Files) -> Made:
    spm, (begin, end) = files.sentencepiece(), (files["bos_token"], files["eos_token"])
    first, last = _free(begin, files["pad_token"], end, files["unk_token"]), _free(files["mask_token"])
    made = _pieces(files, [*first, *spm.pieces[3:], *last], 3, spm)
    made.ends = lambda ids: template(ids, f"{begin} $A {end}", f"{begin} $A {end} {end} $B {end}")
    return made


@kind("CamembertTokenizer", SENTENCEPIECE, **FAIRSEQ, mask={"content": "<mask>", "lstrip": True})
def _camembert(files: Files) -> Made:
    spm, (begin, end) = files.sentencepiece(), (files["bos_token"], files["eos_token"])
    first = [*_free("<s>NOTUSED", files["pad_token"], "</s>NOTUSED", files["unk_token"]), ("<unk>NOTUSED", -100.0)]
    made = _pieces(files, [*first, *spm.pieces[1:], *_free(files["mask_token"])], 3, spm)
    made.ends = lambda ids: template(ids, f"{begin} $A {end}", f"{begin} $A {end} {end} $B {end}")
    return made


@kind(
    "AlbertTokenizer",
    SENTENCEPIECE,
    bos="[CLS]",
    eos="[SEP]",
    unk="<unk>",
    sep="[SEP]",
    pad="<pad>",
    cls="[CLS]",
    mask="[MASK]",
)
def _albert(files: Files) -> Made:
    spm = files.sentencepiece()
    made = _pieces(files, spm.pieces, 1, spm)
    steps: list[Part | None] = [replace("``", '"'), replace("''", '"')]
    if not files.flag("keep_accents", False):
        steps += [{"type": "NFKD"}, {"type": "StripAccents"}]
    if files.flag("do_lower_case", True):
        steps.append({"type": "Lowercase"})
    made.normalizer = sequence("normalizers", [*steps, charsmap(spm.charsmap)])
    made.ends = bert_ends(files)
    return made


@kind("DebertaV2Tokenizer", SENTENCEPIECE, **BERT, bos="[CLS]", eos="[SEP]")
def _deberta_v2(files: Files) -> Made:
    spm = files.sentencepiece()
    made = _pieces(files, spm.pieces, spm.unk_id, spm)
    lower: list[Part | None] = [{"type": "Lowercase"}] if files.flag("do_lower_case", False) else []
    steps = [
        replace(r"\s{2,}|[\n\r\t]", " ", regex=True),
        {"type": "NFC"},
        {"type": "Strip", "strip_left": False, "strip_right": True},
    ]
    made.normalizer = sequence("normalizers", [*lower, *steps])
    scheme = "always" if files.flag("add_prefix_space", True) else "first"
    marks: list[Part | None] = (
        [{"type": "Punctuation", "behavior": "Isolated"}] if files.flag("split_by_punct", False) else []
    )
    made.pre_tokenizer, made.decoder = sequence("pretokenizers", [*marks, metaspace(scheme)]), metaspace(scheme)
    made.ends = bert_ends(files)
    return made


#: what fairseq puts behind the pieces, in the order of the ids
_MBART = """
    ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP nl_XX
    ro_RO ru_RU si_LK tr_TR vi_VN zh_CN
"""
_MBART50 = f"""{_MBART}
    af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN
    te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI
"""


@kind("MBartTokenizer", SENTENCEPIECE, **FAIRSEQ, mask={"content": "<mask>", "lstrip": True})
def _mbart(files: Files) -> Made:
    made, end, language = (
        _of_languages(files, _MBART.split()),
        files["eos_token"],
        files.settings.text("src_lang", "en_XX"),
    )
    made.normalizer = None
    made.ends = lambda ids: template(ids, f"$A {end} {language}", f"$A $B {end} {language}")
    return made


@kind("MBart50Tokenizer", SENTENCEPIECE, **FAIRSEQ, mask={"content": "<mask>", "lstrip": True})
def _mbart50(files: Files) -> Made:
    made, end, language = (
        _of_languages(files, _MBART50.split()),
        files["eos_token"],
        files.settings.text("src_lang", "en_XX"),
    )
    _of_sentences(made, made.normalizer)
    made.ends = lambda ids: template(ids, f"{language} $A {end}", f"{language} $A $B {end}")
    return made


def _of_sentences(made: Made, normalizer: Part | None) -> None:
    """Spaces are pieces of their own where there is nothing else; several are one."""
    made.normalizer = sequence("normalizers", [normalizer, replace(" {2,}", " ", regex=True)])
    made.pre_tokenizer = made.decoder = metaspace("always")


def _of_languages(files: Files, codes: Sequence[str]) -> Made:
    spm = files.sentencepiece()
    first = _free(files["bos_token"], files["pad_token"], files["eos_token"], files["unk_token"])
    made = _pieces(files, [*first, *spm.pieces[3:], *_free(*codes, files["mask_token"])], 3, spm)
    made.extra = [*made.extra, *(token_of(t, "") for t in codes)]
    return made


@kind("NllbTokenizer", SENTENCEPIECE, **FAIRSEQ, mask={"content": "<mask>", "lstrip": True, "normalized": True})
def _nllb(files: Files) -> Made:
    if not files.config.by_id:
        raise LoadError(f"{files.settings.where}: needs an added_tokens_decoder with the ids of the languages")
    spm, end, language = files.sentencepiece(), files["eos_token"], files.settings.text("src_lang", "eng_Latn")
    first = [files["bos_token"], files["pad_token"], end, files["unk_token"]]
    ids = {text: i for i, text in enumerate([*first, *(t for t, _ in spm.pieces if t not in first)])}
    old = spm.vocabulary
    merges = derived_merges(old, old.__getitem__)
    made = Made(bpe(ids, merges, unk_token=files["unk_token"], fuse_unk=True), ids, extra=_own_tokens(spm))
    _of_sentences(made, charsmap(spm.charsmap))
    if files.flag("legacy_behaviour", False):
        made.ends = lambda ids: template(ids, f"$A {end} {language}", f"$A $B {end} {language}")
    else:
        made.ends = lambda ids: template(ids, f"{language} $A {end}", f"{language} $A $B {end}")
    return made


@kind("PegasusTokenizer", SENTENCEPIECE, eos="</s>", unk="<unk>", pad="<pad>", mask="<mask_2>", mask_sent="<mask_1>")
def _pegasus(files: Files) -> Made:
    spm, end = files.sentencepiece(), files["eos_token"]
    offset = files.settings.integer("offset", 103, least=2, most=10_000)
    unused = [(f"<unk_{i}>", -100.0) for i in range(2, offset)]
    masks = _free(files["mask_token"], files["mask_sent_token"]) if "mask_token" in files.named else []
    made = _pieces(files, [*_free(files["pad_token"], end), *masks, *unused, *spm.pieces[2:]], 0, spm)
    made.model["unk_id"] = made.ids[files["unk_token"]]
    _of_sentences(made, charsmap(spm.charsmap) or replace(r"\n", " ", regex=True))
    made.extra = [*made.extra, *(token_of(t, "") for t, _ in unused)]
    made.ends = lambda ids: template(ids, f"$A {end}", f"$A $B {end}")
    return made


# ------------------------------------------------------------------------ pieces that another file gives their numbers

#: behind what no text has, so that only a model writes it: what the pieces of the source are not
_TARGET = "\ufdd0"


@kind("MarianTokenizer", "source.spm", "vocab.json", unk="<unk>", eos="</s>", pad="<pad>")
def _marian(files: Files) -> Made:
    """A text is cut by the source's pieces; those that are the target's alone are found in no text, and only read.

    Unlike there, a run of unknown characters is unknown even where it is a token of the target.
    """
    if files.flag("separate_vocabs", False):
        raise LoadError(f"{files.settings.where}: separate_vocabs true is not supported")
    spm, ids = read_sentencepiece(files.folder / "source.spm"), files.vocabulary()
    known = {text: score for (text, score), t in zip(spm.pieces, spm.types, strict=True) if t in (NORMAL, USER)}
    codes = [t for t in ids if t.startswith(">>") and t.endswith("<<")]
    own = {*known, *codes, *(t["content"] for t in files.named.values())}
    names = [*_in_order(ids, files), *(t for t in known if t not in ids)]  # those have no number: the model has no such
    made_ids = {(t if t in own else _TARGET + t): i for i, t in enumerate(names)}
    model = unigram([(t, known.get(t, -100.0)) for t in made_ids], made_ids[files["unk_token"]])
    made = Made(model, made_ids, extra=[{**token_of(t, ""), "special": False, "normalized": False} for t in codes])
    _of_sentences(made, charsmap(spm.charsmap))
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    made.normalizer = sequence("normalizers", [*made.normalizer["normalizers"], strip] if made.normalizer else [strip])
    made.decoder = {"type": "Sequence", "decoders": [replace(_TARGET, ""), metaspace("always")]}
    made.ends = lambda ids: template(ids, f"$A {files['eos_token']}", f"$A $B {files['eos_token']}")
    return made


def _in_order(ids: Mapping[str, int], files: Files) -> list[str]:
    names = sorted(ids, key=ids.__getitem__)
    if [ids[n] for n in names] != list(range(len(names))):
        raise LoadError(f"{files.folder / 'vocab.json'}: the ids are not 0 to {len(names) - 1}, each once")
    if (unk := files["unk_token"]) not in ids:
        raise LoadError(f"{files.folder / 'vocab.json'}: has no {shown(unk)}")
    return names
