"""Facts about a module, for people and machines."""

from __future__ import annotations

from typing import Any

from burnish.ir.graph import Graph
from burnish.ir.guards import AllTrue
from burnish.ir.module import Module
from burnish.ir.types import NUMPY
from burnish.runtime.parts import bytes_by_part, parts_of

__all__ = ["describe"]


def describe(module: Module) -> dict[str, Any]:
    """What a module is made of: tensors as its source has them, bytes of what run time reads, ops, caches."""
    parameters = [int(_number(e.type.elements)) for e in module.weights.values()]
    parts = bytes_by_part(parts_of(module))
    types: dict[str, int] = {}
    for sizes in parts.values():
        for dtype, n in sizes.items():
            types[dtype] = types.get(dtype, 0) + n
    return {
        "architecture": module.facts.architecture or "no named architecture",
        "facts": {k: v for k, v in module.facts.given().items() if k != "architecture"},
        "tensors": len(parameters),
        "parameters": sum(parameters),
        "parameters_per_tensor": sum(parameters) // max(len(parameters), 1),
        "bytes_by_type": types,
        "bytes_by_part": parts,
        "graphs": {g.name: ", ".join(f"{v.name}: {v.type}" for v in g.inputs) for g in module.graphs.values()},
        "ops": {g.name: _ops(g) for g in module.graphs.values()},
        "cache_bytes_per_token": _cache_bytes(module),
        "guards": [g.reason if isinstance(g, AllTrue) else str(g) for g in module.guards],
    }


def _ops(graph: Graph) -> dict[str, dict[str, int]]:
    """How many nodes of each op, by kind, most first; what weight time does is not counted."""
    counts: dict[str, dict[str, int]] = {}
    for node in graph.order():
        if node.time != "weight":
            kind = counts.setdefault(node.op.kind, {})
            kind[node.op.name] = kind.get(node.op.name, 0) + 1
    return {k: dict(sorted(ops.items(), key=lambda item: (-item[1], item[0]))) for k, ops in sorted(counts.items())}


def _cache_bytes(module: Module) -> int | None:
    """Bytes that each token adds to the caches of a sequence; None for a model that keeps none."""
    total = 0
    for graph in module.graphs.values():
        for node in graph:
            if node.op.name == "attention" and getattr(node.op, "causal", False):
                for v in (node["k"], node["v"]):
                    heads, size = v.shape[2:]
                    total += _number(heads) * _number(size) * NUMPY[v.dtype].itemsize
    return total or None


def _number(d: object) -> int:
    return d if isinstance(d, int) else 0
