"""Facts about a module, for people and machines."""

from __future__ import annotations

import math
from typing import Any

from burnish.ir.graph import Graph
from burnish.ir.guards import AllTrue
from burnish.ir.module import Module
from burnish.ir.signature import Ring, Rows, State
from burnish.ir.types import NUMPY
from burnish.passes.engine import PassError
from burnish.passes.pipelines import run_passes
from burnish.runtime.parts import Plan

__all__ = ["describe"]


def describe(module: Module) -> dict[str, Any]:
    """What a module is made of: tensors as its source has them, bytes of what run time reads, ops, states."""
    parameters = [int(_number(e.type.elements)) for e in module.weights.values()]
    parts = Plan.of(module).sizes
    types: dict[str, int] = {}
    for sizes in parts.values():
        for dtype, n in sizes.items():
            types[dtype] = types.get(dtype, 0) + n
    states = _state_bytes(module)
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
        "cache_bytes_per_token": states and states[0],
        "state_bytes_per_sequence": states and states[1],
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


def _state_bytes(module: Module) -> tuple[int, int] | None:
    """Bytes of a sequence's states: what each token adds, and what windows and recurrences hold at most.

    None where the graphs keep nothing, or cannot be run in steps.
    """
    try:
        stateful = run_passes(module.copy(), "insert-state").module
    except PassError:
        return None
    growing = fixed = 0
    states = [v for graph in stateful.graphs.values() for v in graph.states.values()]
    for v in states:
        role = v.role
        assert isinstance(role, State)
        rows = role.axis if isinstance(role, Rows | Ring) else None
        sizes = [d for i, d in enumerate(v.shape) if isinstance(d, int) and i not in (role.batch, rows)]
        size = math.prod(sizes) * NUMPY[v.dtype].itemsize
        if isinstance(role, Rows):
            growing += size
        else:
            fixed += size * (role.most if isinstance(role, Ring) else 1)
    return (growing, fixed) if states else None


def _number(d: object) -> int:
    return d if isinstance(d, int) else 0
