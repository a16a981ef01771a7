"""Which tensors a package holds, in which part, under which name: what run time reads of weight time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from burnish.ir.graph import Node, Value
from burnish.ir.leaves import Constant, Weight
from burnish.ir.module import Module, WeightEntry
from burnish.ir.ops.linear import Embedding
from burnish.ir.origin import Origin, block_of
from burnish.ir.structure import Identities
from burnish.ir.walk import above

__all__ = ["Tensor", "bytes_by_part", "frontier", "parts_of", "replace_weight_time"]

Uses = tuple[tuple[Node, int], ...]
_MOST_LISTED = 8  # tensors that a name spells out


@dataclass(frozen=True)
class Tensor:
    """A tensor of a package: a weight-time value, what it was made from, and the operands that it stands for."""

    name: str
    value: Value
    origin: Origin
    uses: Uses


def frontier(module: Module) -> dict[Value, Uses]:
    """What run time reads of weight time, and where: values that are computed alike, in whatever graphs, count as one.

    Constants are not among them: they stay in the graph.
    """
    found: dict[int, Value] = {}
    uses: dict[int, Uses] = {}
    identities = Identities()
    for graph in module.graphs.values():
        for node in [*graph.order(), graph.ret]:
            for position, v in enumerate(node.inputs):
                if node.time != "weight" and v is not None and v.is_weight and not isinstance(v.op, Constant):
                    key = identities.of(v)
                    found.setdefault(key, v)
                    uses[key] = (*uses.get(key, ()), (node, position))
    return {value: uses[key] for key, value in found.items()}


def parts_of(module: Module) -> dict[str, list[Tensor]]:
    """The tensors by part, both in the order in which they are first used.

    A table that an embedding reads is in `embedding`; what a block reads first is in `block_00` … (after the graph's
    name, where there are several graphs); the rest is in `lm`.
    """
    parts: dict[str, list[Tensor]] = {}
    names: set[str] = set()
    for value, uses in frontier(module).items():
        part, origin = _part(uses, len(module.graphs) > 1), _origin(value)
        stem = name = f"{part}/{_stem(origin.sources, block_of(uses[0][0].origin.scope))}"
        count = 1
        while name in names:
            name = f"{stem}.{(count := count + 1)}"
        names.add(name)
        parts.setdefault(part, []).append(Tensor(name, value, origin, uses))
    return parts


def bytes_by_part(parts: dict[str, list[Tensor]]) -> dict[str, dict[str, int]]:
    """The bytes of each element type in each part."""
    sizes: dict[str, dict[str, int]] = {}
    for part, tensors in parts.items():
        dtypes = sizes.setdefault(part, {})
        for t in tensors:
            nbytes = t.value.type.nbytes
            assert isinstance(nbytes, int)
            dtypes[t.value.dtype] = dtypes.get(t.value.dtype, 0) + nbytes
    return sizes


def replace_weight_time(module: Module, tensors: Iterable[Tensor]) -> None:
    """Make each tensor a weight of its own, and these the module's only weights; weight time is then done."""
    tensors = list(tensors)
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


def _part(uses: Uses, several_graphs: bool) -> str:
    if any(isinstance(node.op, Embedding) for node, _ in uses):
        return "embedding"
    node = uses[0][0]
    block = block_of(node.origin.scope)
    if not block or node.graph is None:
        return "lm"
    graph = re.sub(r"[^\w-]", "_", node.graph.name, flags=re.ASCII)  # it becomes a file's name
    return (f"{graph}." if several_graphs else "") + f"block_{block.zfill(2)}"


def _origin(value: Value) -> Origin:
    """The tensors of the source that it is made from, and the rules that made it."""
    weights = value.graph.module.weights
    origins = []
    for node in above([value]):
        origin = node.origin
        if isinstance(node.op, Weight):
            origin = weights[node.op.tensor].origin
            origins.append(Origin("", origin.sources or (node.op.tensor,), origin.rules))
        else:
            origins.append(Origin("", (), origin.rules))
    return Origin.union(origins)


def _stem(sources: tuple[str, ...], block: str) -> str:
    """What the tensors are called together, `self_attn.{q,k,v}_proj.weight`, without the way to the block."""
    if not sources:
        return "constant"
    start = _shared(sources)
    end = _shared([s[len(start) :][::-1] for s in sources])[::-1]
    middles = [s[len(start) : len(s) - len(end)] for s in sources]
    if len(middles) > _MOST_LISTED:
        middles = [f"{middles[0]}..{middles[-1]}"]
    name = start + (f"{{{','.join(middles)}}}" if len(sources) > 1 else "") + end
    way = re.match(rf"(?:.*?\.)?{block}\.", name) if block else None
    return name[way.end() :] if way else name


def _shared(texts: Sequence[str]) -> str:
    """The beginning that all have in common."""
    least, most = min(texts), max(texts)
    end = next((i for i, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))
    return least[:end]
