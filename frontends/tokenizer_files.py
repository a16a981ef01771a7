"""Tokenizers that come in other files than a `tokenizer.json`, as one: which files a class reads, and what it makes.

What a class makes of its files is transformers' (`models/*/tokenization_*.py`, `convert_slow_tokenizer.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from burnish.frontends.config import Config, LoadError, read_object, shown
from burnish.frontends.on_disk import begins_as
from burnish.frontends.sentencepiece_file import SentencePiece, read_sentencepiece
from burnish.frontends.tokenizer_config import Added, TokenizerConfig, read_tokenizer_config, token_of
from burnish.frontends.tokenizer_parts import Part, added_tokens, template, tokenizer_json

__all__ = ["SENTENCEPIECE", "Files", "Made", "class_of", "kind", "tokenizer_of_files"]

_LARGEST = 64 << 20  # bytes of a list of words or merges
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
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
}


@dataclass
class Made:
    """A tokenizer before its tokens are numbered: the ids of the model, and what depends on all of them."""

    model: Part
    ids: dict[str, int]
    normalizer: Part | None = None
    pre_tokenizer: Part | None = None
    decoder: Part | None = None
    ends: Callable[[Mapping[str, int]], Part | None] | None = None  # left out: what add_bos_token and so on say
    extra: Sequence[Added] = ()  # special tokens of the family's own


@dataclass
class Files:
    """What a class is given: the folder, what lies beside the tokenizer, and the texts of named tokens."""

    folder: Path
    config: TokenizerConfig
    named: dict[str, Added] = field(default_factory=dict)

    @property
    def settings(self) -> Config:
        return self.config.settings

    def __getitem__(self, name: str) -> str:
        """The text of a named token: `files["cls"]`."""
        token = self.named.get(f"{name}_token")
        if token is None:
            raise LoadError(f"{self.settings.where}: needs a {f'{name}_token'!r}")
        return str(token["content"])

    def flag(self, name: str, default: bool) -> bool:
        """A setting; null is the default."""
        return self.settings.flag(name, default)

    def vocabulary(self) -> dict[str, int]:
        """Of a `vocab.json`."""
        values = read_object(self.folder / "vocab.json")
        if bad := [t for t, i in values.items() if isinstance(i, bool) or not isinstance(i, int) or i < 0]:
            where = self.folder / "vocab.json"
            raise LoadError(f"{where}: token {shown(bad[0])} must have an id, not {shown(values[bad[0]])}")
        return values

    def words(self) -> dict[str, int]:
        """Of a `vocab.txt`: one a line."""
        return {word: i for i, word in enumerate(_lines(self.folder / "vocab.txt"))}

    def merges(self) -> list[tuple[str, str]]:
        """Of a `merges.txt`: two with a space between, one a line."""
        pairs = []
        for i, line in enumerate(_lines(self.folder / "merges.txt")):
            if line.startswith("#version") or not line.strip():
                continue
            if len(two := line.split()) != 2:
                raise LoadError(f"{self.folder / 'merges.txt'}: line {i + 1} {shown(line)} is not two tokens")
            pairs.append((two[0], two[1]))
        return pairs

    def sentencepiece(self) -> SentencePiece:
        """The model, by whichever name it goes."""
        return read_sentencepiece(next(self.folder / n for n in SENTENCEPIECE if (self.folder / n).exists()))


def _lines(file: Path) -> list[str]:
    try:
        if file.stat().st_size > _LARGEST:
            raise LoadError(f"{file}: {file.stat().st_size} bytes are too many for a list of tokens")
        raw = file.read_bytes()
        if known := begins_as(raw[:64]):
            raise LoadError(f"{file}: {known}")
        return raw.decode("utf-8").removesuffix("\n").replace("\r\n", "\n").split("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise LoadError(f"{file}: {e}") from None


Make = Callable[["Files"], "Made"]


@dataclass(frozen=True)
class _Kind:
    """What a class reads, the tokens that it has unless the files name others, and what it makes."""

    make: Callable[[Files], Made]
    reads: Sequence[Sequence[str]]  # of each, one is there
    named: Mapping[str, str | Added]


KINDS: dict[str, _Kind] = {}


def kind(classes: str, *reads: str | Sequence[str], **named: str | Added) -> Callable[[Make], Make]:
    """What the decorated function makes is what these classes make, of files of which one of each `reads` is there.

    `named` are the tokens that they have unless the files say otherwise: `unk="[UNK]"`.
    """

    def register(make: Make) -> Make:
        each = [[r] if isinstance(r, str) else r for r in reads]
        for name in classes.split():
            KINDS[name] = _Kind(make, each, {f"{k}_token": v for k, v in named.items()})
        return make

    return register


def tokenizer_of_files(folder: Path) -> str | None:
    """The text of a `tokenizer.json` that says what a folder's files say.

    None where there are none of a tokenizer, or of a class that is not known (see `why_not`). Raises LoadError for
    files that are not sound.
    """
    config, found = read_tokenizer_config(folder), None
    if _listed(folder) & {"vocab.txt", "vocab.json", *SENTENCEPIECE}:
        found = _kinds().get(class_of(folder, config))
    if found is None or any(_listed(folder).isdisjoint(names) for names in found.reads):
        return None
    named = {n: token_of(t, config.settings.where) for n, t in found.named.items()} | dict(config.named)
    return _whole(Files(folder, config, {n: t for n, t in named.items() if n not in config.without}), found)


def why_not(folder: Path) -> str:
    """Why a folder's tokenizer is not read, where it is of a class."""
    name = class_of(folder, read_tokenizer_config(folder))
    if (found := _kinds().get(name)) is None:
        known = ", ".join(sorted(KINDS))
        return f"tokenizer_class {shown(name)} is not supported; supported are {known}" if name else ""
    lacks = next((names for names in found.reads if _listed(folder).isdisjoint(names)), ())
    return f"{name} needs {' or '.join(lacks)}" if lacks else ""


def _kinds() -> Mapping[str, _Kind]:
    from burnish.frontends import tokenizer_kinds

    assert tokenizer_kinds  # imported so that they are registered
    return KINDS


def _listed(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} if folder.is_dir() else set()


def class_of(folder: Path, config: TokenizerConfig) -> str:
    """The class of transformers that reads a folder's tokenizer: stated, or that of its model; "" where neither is."""
    file = folder / "config.json"
    values = read_object(file) if file.exists() else {}
    stated = config.tokenizer_class or values.get("tokenizer_class")
    return stated.removesuffix("Fast") if isinstance(stated, str) else _CLASS_OF.get(str(values.get("model_type")), "")


def _whole(files: Files, found: _Kind) -> str:
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
    begin = files["bos"] + " " if files.flag("add_bos_token", False) and "bos_token" in files.named else ""
    end = " " + files["eos"] if files.flag("add_eos_token", False) and "eos_token" in files.named else ""
    return template(ids, f"{begin}$A{end}", f"{begin}$A{end} {begin and files['bos'] + ':1 '}$B:1{end and end + ':1'}")
