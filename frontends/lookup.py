"""Finds the parameters that an architecture asks for among a source's tensors, and accounts for each of these."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from burnish.frontends.config import shown
from burnish.frontends.on_disk import listed
from burnish.frontends.stored import RowMap, Spelling, Tensors, spelled
from burnish.ir.dims import Dim
from burnish.ir.types import Type

__all__ = ["Lookup", "Place"]

#: what older versions of transformers stored beside the parameters; it follows from the config
BUFFERS = ("position_ids", "token_type_ids", "rotary_emb.inv_freq", "attn.masked_bias", "attention.masked_bias")
#: what decoders with a head for questions call the base model
OF_QUESTIONS = "transformer."
#: how old names of parameters end, and what they are now
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


class Place(NamedTuple):
    """Where a parameter is stored: its canonical name (of a tied one, that of its stand-in), and how it is stored."""

    canonical: str
    stored: str
    rows: RowMap | None
    shape: tuple[Dim, ...]


@dataclass
class Lookup:
    """The tensors of a source, against those that an architecture asks for."""

    tensors: Tensors
    base: str
    spelling: Spelling
    #: sets of names that mean one tensor
    tied: Sequence[Sequence[str]]
    unused: Sequence[str]
    #: whether tensors beside those of the base model are left alone
    beside: bool = False
    #: how the source may call them too, see `Architecture.in_memory`
    in_memory: Spelling = field(default_factory=dict)
    #: by stored name, what is read
    asked: dict[str, Type] = field(default_factory=dict)
    #: by stored name, the canonical names that it stands for
    canonical: dict[str, list[str]] = field(default_factory=dict)
    #: by the name of a weight that is a stack, the stored names of its parts
    stacks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def types(self) -> Mapping[str, Type]:
        """Of all that is stored."""
        return self.tensors.types

    def find(self, name: str, shape: tuple[Dim, ...]) -> Place:
        """Where a parameter is stored, or would be."""
        same = next((names for names in self.tied if name in names), [name])
        for found in (self._by_name, self._by_alias):
            for n in (name, *same):
                for called, rows in self._spelled(n):
                    if (at := self._there(called, found)) is not None:
                        return Place(n, at, rows, rows.shape(shape) if rows else shape)
        called, rows = self._spelled(same[0])[-1]
        if self.types and not self._has_base:
            called = self._without_base(called)
        return Place(same[0], self.tensors.prefixes[0] + called, rows, rows.shape(shape) if rows else shape)

    def leaf(self, at: str, shape: tuple[Dim, ...]) -> Type:
        """The type of the tensor stored under `at`, which must be of this shape; one that is wrong is noted."""
        stored = self.types.get(at)
        fits = stored is not None and stored.shape == shape and (stored.is_float or stored.format is not None)
        if stored is None or not fits:
            wanted = Type("f32", shape)
            if stored is not None and at not in self.asked:
                self.wrong.append(f"{at!r} is {stored}, but must be {wanted}, or of another float type")
            return self.asked.setdefault(at, wanted)
        return self.asked.setdefault(at, stored)

    def complaints(self) -> list[str]:
        """What is wrong, each tensor named: of another shape, missing, or read by nothing."""
        missing = [n for n in self.asked if n not in self.types]
        spare = {self._there(n, self._by_name) for names in self.tied for name in names for n, _ in self._spelled(name)}
        ignored = (*BUFFERS, *self.unused)
        extra = [n for n in self._unread() if n not in spare and not any(u in n for u in ignored)]
        if self.beside and self._has_base:
            extra = [n for n in extra if n.startswith(f"{self.tensors.prefixes[0]}{self._base}.")]
        found = {
            "tensors of another shape or type than the config says": self.wrong,
            "missing tensors": _with_nearest(missing, extra or self.types),
            "tensors that nothing reads": _with_nearest(extra, missing or self.asked),
        }
        return [f"{what}: {listed(names, 50)}" for what, names in found.items() if names]

    def left_out(self) -> tuple[str, ...]:
        """What the tensors begin with that belong to other models in the source."""
        return tuple(dict.fromkeys(n.removeprefix("model.").partition(".")[0] for n in self._unread(own=False)))

    def _unread(self, own: bool = True) -> list[str]:
        prefixes = tuple(filter(None, self.tensors.prefixes))
        return [n for n in self.types if n not in self.asked and (not prefixes or n.startswith(prefixes)) == own]

    def _spelled(self, name: str) -> list[tuple[str, RowMap | None]]:
        """What a parameter may be called, the usual name last."""
        if self.tensors.spell is None:
            usual = spelled(name, self.spelling)
            return [spelled(name, self.in_memory), usual] if self.in_memory else [usual]
        return [(n, None) for n in self.tensors.spell(name) or (name,)]

    def _there(self, called: str, found: Mapping[str, str]) -> str | None:
        """The name, in the source, of the tensor that is called so; None where there is none."""
        bare = self._without_base(called)
        names = (called,) if bare == called else (called, bare, OF_QUESTIONS + bare)
        return next((at for n in names if (at := found.get(n)) is not None), None)

    @cached_property
    def _by_name(self) -> Mapping[str, str]:
        """The tensors by their names of today, without what stands before those of the whole model."""
        names = dict.fromkeys(self.types)
        if self.tensors.containers:  # any module's weight may be in one
            names |= dict.fromkeys(f"{n.rpartition('.')[0]}.weight" for n in self.types if not n.endswith(".bias"))
        return self._called(names)

    @cached_property
    def _by_alias(self) -> Mapping[str, str]:
        """The same of tensors that have another name in the source too."""
        return {n: self.tensors.aliases[alias] for n, alias in self._called(self.tensors.aliases).items()}

    def _called(self, names: Iterable[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for prefix in self.tensors.prefixes:
            for n in names:
                if n.startswith(prefix):
                    found.setdefault(_of_today(n.removeprefix(prefix)), n)
        return found

    @cached_property
    def _base(self) -> str:
        """What the source calls the base model."""
        return spelled(self.base, self.spelling)[0] if self.base else ""

    @cached_property
    def _has_base(self) -> bool:
        """Whether the names of the base model's tensors say so; one that was saved alone lacks that."""
        base = f"{self.tensors.prefixes[0]}{self._base}."
        return not self._base or any(n.startswith(base) for n in self.types)

    def _without_base(self, called: str) -> str:
        return called.removeprefix(f"{self._base}.") if self._base else called


def _of_today(name: str) -> str:
    old = next((old for old in OLD_NAMES if name.endswith(old)), "")
    return name.removesuffix(old) + OLD_NAMES[old] if old else name


def _with_nearest(names: list[str], known: Iterable[str]) -> list[str]:
    """The names, those that are shown with the nearest of `known`; where a file has thousands, some are looked at."""
    near: list[str] = [n for n in known if len(n) < 200][:500]
    texts = []
    for i, name in enumerate(names):
        close = difflib.get_close_matches(name, near, n=1, cutoff=0.5) if i < 50 and len(name) < 200 else []
        texts.append(shown(name, 200) + (f" (nearest: {close[0]!r})" if close else ""))
    return texts
