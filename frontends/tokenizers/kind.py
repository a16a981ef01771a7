"""What a kind of tokenizer is given, and what it makes: the parts of a `tokenizer.json`, before its tokens have ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from burnish.frontends.config import Config, LoadError, read_object, shown
from burnish.frontends.on_disk import begins_as
from burnish.frontends.tokenizers.config import Added, TokenizerConfig
from burnish.frontends.tokenizers.parts import Part, template
from burnish.frontends.tokenizers.sentencepiece_file import SentencePiece, read_sentencepiece

__all__ = ["BERT", "FAIRSEQ", "KINDS", "SENTENCEPIECE", "Files", "Kind", "Made", "bert_ends", "kind"]

_LARGEST = 64 << 20  # bytes of a list of words or merges
#: what tokens are called, for `kind`
BERT = dict(unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]")
FAIRSEQ = dict(bos="<s>", eos="</s>", unk="<unk>", sep="</s>", pad="<pad>", cls="<s>")
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")


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
        """The text of a named token: `files["cls_token"]`."""
        token = self.named.get(name)
        if token is None:
            raise LoadError(f"{self.settings.where}: needs a {name!r}")
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
class Kind:
    """What a class reads, the tokens that it has unless the files name others, and what it makes."""

    make: Callable[[Files], Made]
    reads: Sequence[Sequence[str]]  # of each, one is there
    named: Mapping[str, str | Added]


KINDS: dict[str, Kind] = {}


def kind(classes: str, *reads: str | Sequence[str], **named: str | Added) -> Callable[[Make], Make]:
    """What the decorated function makes is what these classes make, of files of which one of each `reads` is there.

    `named` are the tokens that they have unless the files say otherwise: `unk="[UNK]"`.
    """

    def register(make: Make) -> Make:
        each = [[r] if isinstance(r, str) else r for r in reads]
        for name in classes.split():
            KINDS[name] = Kind(make, each, {f"{k}_token": v for k, v in named.items()})
        return make

    return register


def bert_ends(files: Files) -> Callable[[Mapping[str, int]], Part | None]:
    """`[CLS] $A [SEP]`, the second text of a pair of another type."""
    cls, sep = files["cls_token"], files["sep_token"]
    return lambda ids: template(ids, f"{cls} $A {sep}", f"{cls} $A {sep} $B:1 {sep}:1")
