"""Tokenizers that come in other files than a `tokenizer.json`, as one.

Which files a class reads, and what it makes of them, is transformers' (`models/*/tokenization_*.py`,
`convert_slow_tokenizer.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from burnish.frontends.config import LoadError, read_object, shown
from burnish.frontends.tokenizers import sentencepiece_kinds, word_kinds
from burnish.frontends.tokenizers.config import TokenizerConfig, read_tokenizer_config, token_of
from burnish.frontends.tokenizers.kind import KINDS, SENTENCEPIECE, Files, Kind
from burnish.frontends.tokenizers.parts import Part, added_tokens, template, tokenizer_json

__all__ = ["class_of", "tokenizer_of_files", "why_not"]

assert sentencepiece_kinds and word_kinds  # imported so that they are registered

#: of config.json, for folders that do not name a class
_CLASS_OF = {
    **dict.fromkeys("bert distilbert electra nomic_bert mobilebert convbert layoutlm".split(), "BertTokenizer"),
    **dict.fromkeys("gpt2 gpt_neo gptj opt phi codegen starcoder2".split(), "GPT2Tokenizer"),
    **dict.fromkeys("roberta bart longformer led".split(), "RobertaTokenizer"),
    **dict.fromkeys("t5 mt5".split(), "T5Tokenizer"),
    **dict.fromkeys("gemma gemma2 gemma3 gemma3_text".split(), "GemmaTokenizer"),
    "llama": "LlamaTokenizer",
    **dict.fromkeys("qwen2 qwen3".split(), "Qwen2Tokenizer"),
    "mpnet": "MPNetTokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "albert": "AlbertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "mbart": "MBartTokenizer",
    "pegasus": "PegasusTokenizer",
    "marian": "MarianTokenizer",
}


def tokenizer_of_files(folder: Path) -> str | None:
    """The text of a `tokenizer.json` that says what a folder's files say.

    None where there are none of a tokenizer, or of a class that is not known (see `why_not`). Raises LoadError for
    files that are not sound.
    """
    config, found = read_tokenizer_config(folder), None
    if _listed(folder) & {"vocab.txt", "vocab.json", *SENTENCEPIECE}:
        found = KINDS.get(class_of(folder, config))
    if found is None or any(_listed(folder).isdisjoint(names) for names in found.reads):
        return None
    named = {n: token_of(t, config.settings.where) for n, t in found.named.items()} | dict(config.named)
    return _whole(Files(folder, config, {n: t for n, t in named.items() if n not in config.without}), found)


def why_not(folder: Path) -> str:
    """Why a folder's tokenizer is not read, where it is of a class."""
    name = class_of(folder, read_tokenizer_config(folder))
    if (found := KINDS.get(name)) is None:
        known = ", ".join(sorted(KINDS))
        return f"tokenizer_class {shown(name)} is not supported; supported are {known}" if name else ""
    lacks = next((names for names in found.reads if _listed(folder).isdisjoint(names)), ())
    return f"{name} needs {' or '.join(lacks)}" if lacks else ""


def _listed(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} if folder.is_dir() else set()


def class_of(folder: Path, config: TokenizerConfig) -> str:
    """The class of transformers that reads a folder's tokenizer: stated, or that of its model; "" where neither is."""
    file = folder / "config.json"
    values = read_object(file) if file.exists() else {}
    stated = config.tokenizer_class or values.get("tokenizer_class")
    return stated.removesuffix("Fast") if isinstance(stated, str) else _CLASS_OF.get(str(values.get("model_type")), "")


def _whole(files: Files, found: Kind) -> str:
    made, config = found.make(files), files.config
    own = {t["content"]: t for t in config.by_id.values()}
    wanted = [*({**own.get(t["content"], t), "special": True} for t in files.named.values())]
    wanted += config.extra if config.extra else made.extra
    added = added_tokens(made.ids, wanted, config.by_id, config.settings.where)
    ends = made.ends or (lambda ids: _stated_ends(files, ids))
    try:
        post_processor = ends(made.ids)
    except KeyError as e:
        raise LoadError(f"{config.settings.where}: the token {e} is not in the vocabulary") from None
    return tokenizer_json(
        made.model,
        added=added,
        normalizer=made.normalizer,
        pre_tokenizer=made.pre_tokenizer,
        post_processor=post_processor,
        decoder=made.decoder,
    )


def _stated_ends(files: Files, ids: Mapping[str, int]) -> Part | None:
    """What `add_bos_token` and `add_eos_token` say; neither is added unless it is said."""
    begin = files["bos_token"] + " " if files.flag("add_bos_token", False) and "bos_token" in files.named else ""
    end = " " + files["eos_token"] if files.flag("add_eos_token", False) and "eos_token" in files.named else ""
    return template(
        ids, f"{begin}$A{end}", f"{begin}$A{end} {begin and files['bos_token'] + ':1 '}$B:1{end and end + ':1'}"
    )
