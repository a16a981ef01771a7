"""How a source stores its parameters: under which names, joined or transposed how, in what container.

A parameter is asked for by its canonical name, transformers' module path in Llama, BERT or T5. A spelling says which
tensor of the source that is, a row map which rows of it, a container how the source stores it: as one tensor, or as
several. What results is an expression of ordinary weight-time nodes over stored tensors.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from burnish.frontends.config import Config, LoadError, shown
from burnish.ir.builder import Ops
from burnish.ir.dims import Dim
from burnish.ir.graph import Value
from burnish.ir.registry import Registry
from burnish.ir.types import Type
from burnish.ir.weights import WeightSource

if TYPE_CHECKING:
    from burnish.frontends.architecture import Layers

__all__ = [
    "CONTAINERS",
    "Container",
    "Conventions",
    "Rows",
    "Spelling",
    "Stored",
    "Tensors",
    "containers_of",
    "interleaved",
    "joined",
    "transposed",
]

Spelling = Mapping[str, "str | Rows"]

#: what older versions of transformers stored beside the parameters; it follows from the config
BUFFERS = ("position_ids", "token_type_ids", "rotary_emb.inv_freq", "attn.masked_bias", "attention.masked_bias")
#: old names of parameters, by how they end
OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


# ------------------------------------------------------------------------------------------------------------ row maps


@dataclass(frozen=True)
class Rows:
    """A parameter as some of the rows of the stored tensor of module `name`, all of them unless `sizes` is given.

    The tensor holds parameters of `sizes` rows, of which this is number `index`: one after the other or, with `heads`,
    for each head the rows of each that belong to it. `transposed` ones are stored [inputs, outputs].
    """

    name: str
    sizes: tuple[int, ...] = ()
    index: int = 0
    heads: int = 0
    transposed: bool = False

    def shape(self, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
        """The shape of the stored tensor, for a parameter of this one."""
        whole = (sum(self.sizes), *shape[1:]) if self.sizes else shape
        return whole[::-1] if self.transposed else whole

    def take(self, op: Ops, x: Value) -> Value:
        """The parameter out of the stored tensor."""
        if self.transposed and x.type.rank == 2:
            x = op.transpose(x, perm=(1, 0))
        if len(self.sizes) < 2:
            return x
        parts, inner = self.heads or 1, x.shape[1:]
        start, size = sum(self.sizes[: self.index]), self.sizes[self.index]
        if not self.heads:
            return op.slice(x, axis=0, start=start, stop=start + size)
        y = op.reshape(x, shape=(parts, sum(self.sizes) // parts, *inner))
        y = op.slice(y, axis=1, start=start // parts, stop=(start + size) // parts)
        return op.reshape(y, shape=(size, *inner))


def joined(name: str, sizes: Mapping[str, int], transposed: bool = False) -> dict[str, str | Rows]:
    """The spelling of modules (with the number of their outputs) that are stored as one, one after the other."""
    rows = tuple(sizes.values())
    return {module: Rows(name, rows, i, transposed=transposed) for i, module in enumerate(sizes)}


def interleaved(name: str, sizes: Mapping[str, int], heads: int) -> dict[str, str | Rows]:
    """The same, where each of `heads` has its rows of them all together."""
    if any(size % heads for size in sizes.values()):
        raise LoadError(f"{name}: the rows of {dict(sizes)} do not divide into {heads} heads")
    return {module: Rows(name, tuple(sizes.values()), i, heads) for i, module in enumerate(sizes)}


def transposed(name: str) -> Rows:
    """A module whose weight is stored [inputs, outputs], as GPT-2's are."""
    return Rows(name, transposed=True)


def spelled(name: str, spelling: Spelling) -> tuple[str, Rows | None]:
    """The stored name of a parameter, and its row map; whole parts of the path are replaced, the longest first."""
    rows: list[Rows] = []

    def stored(match: re.Match[str]) -> str:
        found = spelling[match[0]]
        if isinstance(found, Rows):
            rows.append(found)
            return found.name
        return found

    if spelling:
        name = re.sub(r"\.{2,}", ".", _parts(tuple(spelling)).sub(stored, name)).strip(".")
    return name, rows[0] if rows else None


@cache
def _parts(names: tuple[str, ...]) -> re.Pattern[str]:
    longest = sorted(names, key=len, reverse=True)
    return re.compile(rf"(?<![^.])(?:{'|'.join(map(re.escape, longest))})(?![^.])")


# ---------------------------------------------------------------------------------------------------------- containers


@dataclass(frozen=True)
class Conventions:
    """Where a source's numbers mean the same in another way than transformers' do. The op changes, not the weight."""

    #: rotary pairs are (2j, 2j + 1) where the family's are (j, j + R/2)
    interleaved_rope: bool = False
    #: the weights of norms that count as 1 + w hold that sum already
    norms_with_offset: bool = False


class Container:
    """How a source stores a parameter, registered by its `name`: a `quant_method` of a config.

    Made of the config's `quantization_config`: what that asks for and is not supported is a LoadError.
    """

    name: ClassVar[str]
    #: whether it makes matrices [outputs, inputs] in families that store them [inputs, outputs] too
    by_outputs: ClassVar[bool] = False

    def __init_subclass__(cls, replace: bool = False) -> None:
        if "name" in cls.__dict__:
            CONTAINERS.add(cls.name, cls, replace)

    def __init__(self, config: Config) -> None:
        self.config = config

    def parameter(self, op: Layers, name: str, shape: tuple[Dim, ...]) -> Value | None:
        """The parameter of that (stored) name and shape, out of `op.stored(…)`; None where it is not stored so.

        Raises LoadError for one that is, but cannot be read.
        """
        raise NotImplementedError


CONTAINERS: Registry[type[Container]] = Registry("container")


def containers_of(config: Config) -> list[Container]:
    """The containers that a config's `quantization_config` names. Raises LoadError for one that there is not."""
    if not config.has("quantization_config"):
        return []
    section = config.section("quantization_config")
    method = section.get("quant_method")
    cls = CONTAINERS.get(method) if isinstance(method, str) else None
    if cls is None:
        known = f"supported are {', '.join(sorted(CONTAINERS)) or 'none'}, and what a --plugin defines"
        raise LoadError(f"{section.where}: quant_method {shown(method)} is not supported; {known}")
    return [cls(section)]


# --------------------------------------------------------------------------------------------------- a source's tensors


@dataclass
class Tensors:
    """What a source has: the types of its tensors, where their data is, and in what form they are stored."""

    types: Mapping[str, Type]
    source: WeightSource | None = None
    containers: Sequence[Container] = ()
    conventions: Conventions = Conventions()
    #: what the source may call a canonical name, the likeliest first; None where it names tensors as the family does
    spell: Callable[[str], Sequence[str]] | None = None
    #: what may stand before the names of the whole model; tensors beside those belong to other models in the file
    prefixes: Sequence[str] = ("",)


class Place(NamedTuple):
    """Where a parameter is stored: its canonical name (of a tied one, that of its stand-in), and how it is stored."""

    canonical: str
    stored: str
    rows: Rows | None
    shape: tuple[Dim, ...]


@dataclass
class Stored:
    """The tensors of a source, against those that an architecture asks for."""

    tensors: Tensors
    base: str
    spelling: Spelling
    tied: Mapping[str, str]
    unused: Sequence[str]
    #: whether tensors beside those of the base model are left alone
    beside: bool = False
    #: by stored name, what is read
    asked: dict[str, Type] = field(default_factory=dict)
    #: by stored name, the canonical names that it stands for
    canonical: dict[str, list[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def types(self) -> Mapping[str, Type]:
        """Of all that is stored."""
        return self.tensors.types

    def find(self, name: str, shape: tuple[Dim, ...]) -> Place:
        """Where a parameter is stored, or would be."""
        names = [n for n in (name, self.tied.get(name)) if n is not None]
        places = []
        for n in names:
            for stored, rows in self._spelled(n):
                places.append(Place(n, self._usual(stored), rows, rows.shape(shape) if rows else shape))
                for at in self._variants(stored):
                    if self._is_there(at):
                        return places[-1]._replace(stored=at)
        return places[-1]

    def leaf(self, at: str, shape: tuple[Dim, ...]) -> Type:
        """The type of the tensor stored under `at`, which must be of this shape; one that is wrong is noted."""
        stored, wanted = self.types.get(at), Type("f32", shape)
        fits = stored is None or (stored.shape == shape and (stored.is_float or stored.format is not None))
        if at not in self.asked and not fits:
            self.wrong.append(f"{at!r} is {stored}, but must be {wanted}, or of another float type")
            stored = None
        return self.asked.setdefault(at, stored or wanted)

    def complaints(self) -> list[str]:
        """What is wrong, each tensor named: of another shape, missing, or read by nothing."""
        missing = [n for n in self.asked if n not in self.types]
        tied = [stored for pair in self.tied.items() for n in pair for stored, _ in self._spelled(n)]
        spare = {at for stored in tied for at in self._variants(stored)}
        ignored = (*BUFFERS, *self.unused)
        extra = [n for n in self._unread() if n not in spare and not any(u in n for u in ignored)]
        if self.beside and self._has_base:
            extra = [n for n in extra if n.startswith(f"{self.tensors.prefixes[0]}{self._stored_base}.")]
        found = [_listed("tensors of another shape or type than the config says", self.wrong)] if self.wrong else []
        if missing:
            found.append(_listed("missing tensors", _with_nearest(missing, extra or self.types)))
        if extra:
            found.append(_listed("tensors that nothing reads", _with_nearest(extra, missing or self.asked)))
        return found

    def left_out(self) -> tuple[str, ...]:
        """What the tensors begin with that belong to other models in the source."""
        return tuple(dict.fromkeys(n.removeprefix("model.").partition(".")[0] for n in self._unread(own=False)))

    def _unread(self, own: bool = True) -> list[str]:
        prefixes = tuple(filter(None, self.tensors.prefixes))
        return [n for n in self.types if n not in self.asked and (not prefixes or n.startswith(prefixes)) == own]

    def _is_there(self, at: str) -> bool:
        return at in self.types or (at.endswith(".weight") and at.removesuffix(".weight") in self._contained)

    @cached_property
    def _contained(self) -> frozenset[str]:
        """The modules whose weights may be in a container."""
        return frozenset(n.rpartition(".")[0] for n in self.types) if self.tensors.containers else frozenset()

    def _spelled(self, name: str) -> list[tuple[str, Rows | None]]:
        if self.tensors.spell is None:
            return [spelled(name, self.spelling)]
        return [(n, None) for n in self.tensors.spell(name) or (name,)]

    def _variants(self, stored: str) -> Iterator[str]:
        """A stored name with and without what may stand before it, in its old forms too."""
        for prefix in self.tensors.prefixes:
            for n in dict.fromkeys((stored, self._without_base(stored))):
                yield prefix + n
                for new, old in OLD_NAMES.items():
                    if n.endswith(new):
                        yield prefix + n.removesuffix(new) + old

    @property
    def _stored_base(self) -> str:
        return spelled(self.base, self.spelling)[0] if self.base else ""

    @cached_property
    def _has_base(self) -> bool:
        """Whether the names of the base model's tensors say so; one that was saved alone lacks that."""
        base = f"{self.tensors.prefixes[0]}{self._stored_base}."
        return not self._stored_base or any(n.startswith(base) for n in self.types)

    def _without_base(self, stored: str) -> str:
        return stored.removeprefix(f"{self._stored_base}.") if self._stored_base else stored

    def _usual(self, stored: str) -> str:
        """How a tensor that is missing would be called."""
        return self.tensors.prefixes[0] + (stored if not self.types or self._has_base else self._without_base(stored))


def _listed(what: str, items: Iterable[str], most: int = 50) -> str:
    items = list(items)
    return f"{what}: {', '.join(items[:most])}" + (f" and {len(items) - most} more" if len(items) > most else "")


def _with_nearest(names: list[str], known: Iterable[str]) -> list[str]:
    """The names, those that are shown with the nearest of `known`; where a file has thousands, some are looked at."""
    near: list[str] = [n for n in known if len(n) < 200][:500]
    texts = []
    for i, name in enumerate(names):
        close = difflib.get_close_matches(name, near, n=1, cutoff=0.5) if i < 50 and len(name) < 200 else []
        texts.append(shown(name, 200) + (f" (nearest: {close[0]!r})" if close else ""))
    return texts
