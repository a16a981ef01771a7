"""How a source stores its parameters: under which names, joined or transposed how, in what container.

A parameter is asked for by its canonical name, transformers' module path in Llama, BERT or T5. A spelling says which
tensor of the source that is, a row map which rows of it, a container how the source stores it: as one tensor, or as
several. What results is an expression of ordinary weight-time nodes over stored tensors. `lookup` finds them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, ClassVar

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
    "RowMap",
    "Spelling",
    "Tensors",
    "containers_of",
    "interleaved",
    "joined",
    "spelled",
    "transposed",
]

Spelling = Mapping[str, "str | RowMap"]


# ------------------------------------------------------------------------------------------------------------ row maps


@dataclass(frozen=True)
class RowMap:
    """A parameter as some of the rows of the stored tensor of module `name`, all of them unless `sizes` is given.

    The tensor holds parameters of `sizes` rows, of which this is number `index`: one after the other or, with `heads`,
    for each head the rows of each that belong to it. `transposed` ones are stored [inputs, outputs]. Rows are counted
    `behind` so many leading axes, 1 for stacks of matrices [E, outputs, inputs].
    """

    name: str
    sizes: tuple[int, ...] = ()
    index: int = 0
    heads: int = 0
    transposed: bool = False
    behind: int = 0

    def shape(self, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
        """The shape of the stored tensor, for a parameter of this one."""
        lead, own = shape[: self.behind], shape[self.behind :]
        whole = (sum(self.sizes), *own[1:]) if self.sizes else own
        return (*lead, *(whole[::-1] if self.transposed else whole))

    def take(self, op: Ops, x: Value) -> Value:
        """The parameter out of the stored tensor."""
        axis = self.behind
        if self.transposed and x.type.rank == axis + 2:
            x = op.transpose(x, perm=(*range(axis), axis + 1, axis))
        if len(self.sizes) < 2:
            return x
        parts, lead, inner = self.heads or 1, x.shape[:axis], x.shape[axis + 1 :]
        start, size = sum(self.sizes[: self.index]), self.sizes[self.index]
        if not self.heads:
            return op.slice(x, axis=axis, start=start, stop=start + size)
        y = op.reshape(x, shape=(*lead, parts, sum(self.sizes) // parts, *inner))
        y = op.slice(y, axis=axis + 1, start=start // parts, stop=(start + size) // parts)
        return op.reshape(y, shape=(*lead, size, *inner))


def joined(name: str, sizes: Mapping[str, int], transposed: bool = False) -> dict[str, str | RowMap]:
    """The spelling of modules (with the number of their outputs) that are stored as one, one after the other."""
    rows = tuple(sizes.values())
    return {module: RowMap(name, rows, i, transposed=transposed) for i, module in enumerate(sizes)}


def interleaved(name: str, sizes: Mapping[str, int], heads: int) -> dict[str, str | RowMap]:
    """The same, where each of `heads` has its rows of them all together."""
    if any(size % heads for size in sizes.values()):
        raise LoadError(f"{name}: the rows of {dict(sizes)} do not divide into {heads} heads")
    return {module: RowMap(name, tuple(sizes.values()), i, heads) for i, module in enumerate(sizes)}


def transposed(name: str) -> RowMap:
    """A module whose weight is stored [inputs, outputs], as GPT-2's are."""
    return RowMap(name, transposed=True)


def spelled(name: str, spelling: Spelling) -> tuple[str, RowMap | None]:
    """The stored name of a parameter, and its row map; whole parts of the path are replaced, the longest first."""
    rows: list[RowMap] = []

    def stored(match: re.Match[str]) -> str:
        found = spelling[match[0]]
        if isinstance(found, RowMap):
            rows.append(found)
            return found.name
        return found

    if spelling:
        name = _parts(tuple(spelling)).sub(stored, name).strip(".")
        name = re.sub(r"\.{2,}", ".", name) if ".." in name else name
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
    #: a tensor by which rotary frequencies are divided, where there is one of that name: a scaling
    rope_divisors: str = ""


class Container:
    """How a source stores a parameter, registered by its `name`: a `quant_method` of a config, or what `holds` tells.

    Made of the config's `quantization_config`: what that asks for and is not supported is a LoadError.
    """

    name: ClassVar[str]
    #: whether the form of a file tells it, or the names of tensors (`holds`), not a config
    of_files: ClassVar[bool] = False
    #: whether it makes matrices [outputs, inputs] in families that store them [inputs, outputs] too
    by_outputs: ClassVar[bool] = False

    def __init_subclass__(cls, replace: bool = False) -> None:
        if "name" in cls.__dict__:
            CONTAINERS.add(cls.name, cls, replace)

    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    def holds(cls, types: Mapping[str, Type]) -> bool:
        """Whether tensors of these names are stored so, in files of any form."""
        return False

    def parameter(self, op: Layers, name: str, shape: tuple[Dim, ...]) -> Value | None:
        """The parameter of that (stored) name and shape, out of `op.stored(…)`; None where it is not stored so.

        Raises LoadError for one that is, but cannot be read.
        """
        raise NotImplementedError


CONTAINERS: Registry[type[Container]] = Registry("container")


#: how people quantize checkpoints in ways that are not read, by `quant_method`
_OTHERS = {
    "aqlm": "AQLM",
    "auto-round": "AutoRound",
    "awq": "AWQ",
    "bitnet": "BitNet",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors (llm-compressor)",
    "eetq": "EETQ",
    "fbgemm_fp8": "FBGEMM's fp8",
    "fp8": "fp8",
    "higgs": "HIGGS",
    "hqq": "HQQ",
    "modelopt": "ModelOpt",
    "mxfp4": "MXFP4",
    "quanto": "Quanto",
    "quark": "Quark",
    "spqr": "SpQR",
    "torchao": "torchao",
    "vptq": "VPTQ",
}


def containers_of(config: Config, types: Mapping[str, Type] | None = None, form: str = "") -> list[Container]:
    """The containers that a config's `quantization_config` tells, the tensors' names, and what a `form` of file is in.

    Raises LoadError for one that there is not.
    """
    of_files = (c for n, c in CONTAINERS.items() if c.of_files and (n == form or c.holds(types or {})))
    return [*_quantized(config), *(c(config) for c in of_files)]


def _quantized(config: Config) -> list[Container]:
    if config.has("quantization"):
        raise _not_read(config, "quantization", "mlx")
    if config.has("compression_config") and not config.has("quantization_config"):
        raise _not_read(config, "compression_config", _OTHERS["compressed-tensors"])
    if not config.has("quantization_config"):
        return []
    section = config.section("quantization_config")
    method = section.get("quant_method")
    if method is None and any(section.has(f"load_in_{bits}bit") for bits in (4, 8)):
        method = "bitsandbytes"
    cls = CONTAINERS.get(method) if isinstance(method, str) else None
    if cls is None or cls.of_files:
        what = _OTHERS.get(method, "") if isinstance(method, str) else ""
        raise _not_read(section, f"quant_method {shown(method)}", what)
    return [cls(section)]


def _not_read(config: Config, field: str, what: str) -> LoadError:
    methods = sorted(name for name, c in CONTAINERS.items() if not c.of_files)
    known = f"supported are {', '.join(methods) or 'none'}, and what a --plugin defines"
    do = "take the model as it was before that, and `--quantize` it, or a .gguf file of it"
    how = f"the weights are quantized by {what}" if what else "the weights are quantized in another way"
    return LoadError(f"{config.where}: {field} is not supported; {known}. {how[0].upper()}{how[1:]}: {do}")


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
    #: further names of tensors, by what is the same data in `types`
    aliases: Mapping[str, str] = field(default_factory=dict)
    #: what may stand before the names of the whole model; tensors beside those belong to other models in the file
    prefixes: Sequence[str] = ("",)
