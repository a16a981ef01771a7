"""Which tensors a package holds, in which part, under which name: what run time reads of weight time."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from burnish.frontends.config import LoadError
from burnish.ir.graph import Node, Value
from burnish.ir.leaves import Constant, Weight
from burnish.ir.module import Module, WeightEntry
from burnish.ir.ops.linear import Embedding
from burnish.ir.origin import Block, Origin, block_of, ranges
from burnish.ir.structure import Identities

__all__ = ["Plan", "Tensor", "folded"]

_MOST_LISTED = 8  # tensors that a name spells out


@dataclass(frozen=True)
class Tensor:
    """A tensor of a package: a weight-time value, what it was made from, and the operands that it stands for."""

    name: str
    value: Value
    origin: Origin
    nbytes: int
    uses: tuple[tuple[Node, int], ...]


@dataclass(frozen=True)
class Plan:
    """What a package of a module holds: its tensors by part, both in the order in which they are first used.

    A table that an embedding reads is in the part `embedding`, what a block reads first in `block_00` …, the rest in
    `lm`. Constants are in none: they stay in the graph. A plan is good while its module is not changed.
    """

    module: Module
    parts: Mapping[str, Sequence[Tensor]]

    @classmethod
    def of(cls, module: Module) -> Plan:
        """Visits each node of each graph once. Values that are computed alike, in whatever graphs, are one tensor.

        Raises LoadError for a tensor whose type has symbols.
        """
        made, found = _WeightTime(module), dict[int, _Found]()
        stacks: dict[str, dict[str, None]] = {name: {} for name in module.graphs}
        for graph in module.graphs.values():
            for node in [*graph.order(), graph.ret]:
                if node.time == "weight":
                    made.add(node)
                    continue
                if (block := block_of(node.origin.scope)) is not None:
                    stacks[graph.name][block.stack] = None
                for position, v in enumerate(node.inputs):
                    if v is not None and v.is_weight and not isinstance(v.op, Constant):
                        tensor = found.setdefault(made.identities.of(v), _Found(v, graph.name, block))
                        tensor.uses.append((node, position))
        return cls(module, _by_part(found.values(), made.origins, _prefixes(stacks)))

    @property
    def tensors(self) -> list[Tensor]:
        """Those of all parts."""
        return [t for part in self.parts.values() for t in part]

    @cached_property
    def sizes(self) -> Mapping[str, Mapping[str, int]]:
        """The bytes of each element type in each part."""
        sizes: dict[str, dict[str, int]] = {}
        for part, tensors in self.parts.items():
            dtypes = sizes[part] = {}
            for t in tensors:
                dtypes[t.value.dtype] = dtypes.get(t.value.dtype, 0) + t.nbytes
        return sizes

    @property
    def tensors_by_type(self) -> Mapping[str, tuple[int, int]]:
        """How many tensors of each element type there are, and their bytes; the most bytes first."""
        found: dict[str, tuple[int, int]] = {}
        for t in self.tensors:
            count, size = found.get(t.value.dtype, (0, 0))
            found[t.value.dtype] = count + 1, size + t.nbytes
        return dict(sorted(found.items(), key=lambda item: -item[1][1]))

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors."""
        return sum(t.nbytes for t in self.tensors)

    def carry_out(self) -> None:
        """Make each tensor a weight of its own, and these the module's only weights; weight time is then done."""
        module, tensors = self.module, self.tensors
        for t in tensors:
            for node, position in t.uses:
                node.set_input(position, None)
        for graph in module.graphs.values():  # before the new leaves: an old one may have the same name
            graph.erase_dead(list(graph))
        module.weights = {t.name: WeightEntry(t.value.type, t.origin) for t in tensors}
        for t in tensors:
            for node, position in t.uses:
                assert node.graph is not None
                node.set_input(position, node.graph.ops.weight(t.name))
        module.normalize()


class _WeightTime:
    """What is known of the values of weight time, once their operands' makers are: the maker is added after them."""

    def __init__(self, module: Module) -> None:
        self.weights = module.weights
        self.identities = Identities()
        self.origins: dict[Value, Origin] = {}  # the tensors of the source, and the rules that made it of them

    def add(self, node: Node) -> None:
        own = Origin("", (), node.origin.rules)
        if isinstance(node.op, Weight):
            entry = self.weights[node.op.tensor].origin
            own = Origin("", entry.sources or (node.op.tensor,), entry.rules)
        origin = Origin.union([*(self.origins[v] for v in node.operands), own])
        for v in node.outputs:
            self.origins[v] = origin


@dataclass
class _Found:
    """A value that run time reads; graph and block are those of its first reader."""

    value: Value
    graph: str
    block: Block | None
    uses: list[tuple[Node, int]] = field(default_factory=list)


def _prefixes(stacks: Mapping[str, Collection[str]]) -> dict[tuple[str, str], str]:
    """What the parts of each stack of each graph begin with: what tells it from the others, and may name a file."""
    prefixes: dict[tuple[str, str], str] = {}
    for graph, names in stacks.items():
        for stack in names:
            way = [graph] * (len(stacks) > 1) + [stack] * (len(names) > 1)
            prefix = re.sub(r"[^\w.-]", "_", "".join(f"{name}." for name in way if name), flags=re.ASCII)
            while prefix in prefixes.values():
                prefix = f"{prefix.removesuffix('.')}_."
            prefixes[graph, stack] = prefix
    return prefixes


def _by_part(
    found: Iterable[_Found], origins: Mapping[Value, Origin], prefixes: Mapping[tuple[str, str], str]
) -> dict[str, list[Tensor]]:
    parts: dict[str, list[Tensor]] = {}
    names: set[str] = set()
    for f in found:
        part, origin = "lm", origins[f.value]
        if any(isinstance(node.op, Embedding) for node, _ in f.uses):
            part = "embedding"
        elif f.block is not None:
            part = f"{prefixes[f.graph, f.block.stack]}block_{f.block.index:02}"
        joined = _joined(origin.sources)
        stem = name = f"{part}/{joined if f.block is None else f.block.own_name(joined)}"
        count = 1
        while name in names:
            name = f"{stem}.{(count := count + 1)}"
        names.add(name)
        nbytes = f.value.type.nbytes
        if not isinstance(nbytes, int):
            raise LoadError(f"the tensor {joined} is {f.value.type}: it has no size that is known")
        parts.setdefault(part, []).append(Tensor(name, f.value, origin, nbytes, tuple(f.uses)))
    return parts


def _joined(sources: Sequence[str]) -> str:
    """What the tensors are called together: `self_attn.{q,k,v}_proj.weight`."""
    if not sources:
        return "constant"
    start = _shared(sources)
    end = _shared([s[len(start) :][::-1] for s in sources])[::-1]
    middles = [s[len(start) : len(s) - len(end)] for s in sources]
    if len(middles) > _MOST_LISTED:
        middles = [f"{middles[0]}..{middles[-1]}"]
    return start + (f"{{{','.join(middles)}}}" if len(sources) > 1 else "") + end


def _shared(texts: Sequence[str]) -> str:
    """The beginning that all have in common."""
    least, most = min(texts), max(texts)
    end = next((i for i, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))
    return least[:end]


def folded(sizes: Mapping[str, Mapping[str, int]]) -> list[tuple[str, int, Mapping[str, int]]]:
    """Parts as people read them: what to call them, how many, the bytes of each.

    Blocks of a stack that are alike are one row: `block_00..03`.
    """
    rows: dict[object, list[tuple[str, str, str]]] = {}
    for part, dtypes in sizes.items():
        stack, block, index = part.rpartition("block_")
        rows.setdefault((stack, *dtypes.items()) if block else part, []).append((part, stack + block, index))
    return [
        (f"{way}{ranges(i for _, _, i in row)}" if len(row) > 1 else first, len(row), sizes[first])
        for row in rows.values()
        for first, way, _ in row[:1]
    ]
