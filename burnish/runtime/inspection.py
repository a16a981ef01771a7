"""Facts about a module, for people and machines."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from burnish.ir.graph import Graph
from burnish.ir.guards import AllTrue
from burnish.ir.module import Module
from burnish.ir.ops.experts import ExpertLinear
from burnish.ir.ops.linear import Embedding
from burnish.ir.signature import Ring, Rows, State
from burnish.ir.types import NUMPY
from burnish.ir.weights import StackedWeights
from burnish.passes.engine import PassError
from burnish.passes.pipelines import run_passes
from burnish.runtime.dimensions import dimensions
from burnish.runtime.doors import executable
from burnish.runtime.executable import Executable
from burnish.runtime.parts import Plan, Tensor

__all__ = ["Products", "describe", "products_of"]


@dataclass(frozen=True)
class Products:
    """Products whose weights are of one type, and how they run: packed as they are, dequantized first, or plain."""

    op: str
    weight: str
    count: int
    kernel: str  # "" where none runs them
    dequantized: str  # why they are dequantized as a whole first; "" where they are not


def describe(module: Module, backend: str = "numpy") -> dict[str, Any]:
    """What a module is made of: its dimensions, bytes of what run time reads, ops, states, and what has a kernel.

    Its graphs are looked at as they would run on `backend`, after the passes that this takes; nothing is computed.
    """
    model, ready = _made_ready(module, backend)
    plan = Plan.of(ready)
    states = _state_bytes(ready)
    weights, tables = plan.nbytes, plan.parts.get("embedding", ())
    copies = {(t.origin.sources, _parameters(t)) for t in tables}  # a tied head in another format is one of these
    others = [t for part, tensors in plan.parts.items() if part != "embedding" for t in tensors]
    rest = sum(_parameters(t) for t in others if (t.origin.sources, _parameters(t)) not in copies)
    parameters = sum(map(_parameters, tables)) + rest
    stacks = module.source.stacks if isinstance(module.source, StackedWeights) else {}
    tensors = sum(len(stacks.get(n, (n,))) for n in module.weights)
    return {
        "architecture": module.facts.architecture or "no named architecture",
        "facts": {k: v for k, v in module.facts.given().items() if k != "architecture"},
        "dimensions": {g.name: dimensions(g) for g in ready.graphs.values()},
        "tied": any(_is_product(t) for t in tables) or rest < sum(map(_parameters, others)),
        "tensors": tensors,
        "parameters": parameters,
        "parameters_per_tensor": parameters // max(tensors, 1),
        "parameters_without_embeddings": rest,
        "parameters_of_a_token": sum(map(_parameters_of_a_token, plan.tensors)),
        "bytes": weights,
        "bytes_by_type": dict(sum((Counter(sizes) for sizes in plan.sizes.values()), Counter[str]())),
        "bytes_by_part": plan.sizes,
        "graphs": {g.name: ", ".join(f"{v.name}: {v.type}" for v in g.inputs) for g in module.graphs.values()},
        "ops": {g.name: _ops(g) for g in ready.graphs.values()},
        "cache_bytes_per_token": states and states[0],
        "state_bytes_per_sequence": states and states[1],
        "bytes_at": {n: weights + states[0] * n + states[1] for n in _lengths(module)} if states else {},
        "products": None if model is None else [asdict(p) for p in _products(model)],
        "backend": backend,
        "guards": [g.reason if isinstance(g, AllTrue) else str(g) for g in module.guards],
    }


def products_of(module: Module, backend: str = "numpy") -> list[Products] | None:
    """How the products with weights would run, those that are alike together, the most first; nothing is computed.

    None for a module that a pass cannot make ready.
    """
    model, _ = _made_ready(module, backend)
    return None if model is None else _products(model)


def _products(model: Executable) -> list[Products]:
    backend = model.stateful if model.is_generative else model.plain
    found: Counter[tuple[str, str]] = Counter()
    ways: dict[tuple[str, str], tuple[str, str]] = {}
    for name in model.module.graphs:
        for node, way in backend.ways(name):
            if node.op.kind == "linear" and node.op.weight is not None:
                key = (node.op.name, node[node.op.weight].dtype)
                found[key] += 1
                kernel = way.kernel.name if way.kernel is not None else ""
                ways.setdefault(key, (kernel, way.why_not))
    return [Products(*key, count, *ways[key]) for key, count in found.most_common()]


def _made_ready(module: Module, backend: str) -> tuple[Executable | None, Module]:
    """The module as it would run, and its plain graphs; as it is, where a pass cannot take it."""
    try:
        model = executable(module, backend)
        _ = model.stateful if model.is_generative else model.plain
    except PassError:
        return None, module
    return model, model.module


def _parameters(tensor: Tensor) -> int:
    """Its numbers, where it is one of floats."""
    kind = tensor.value.type
    return _number(kind.elements) if kind.is_float or kind.format is not None else 0


def _parameters_of_a_token(tensor: Tensor) -> int:
    """The numbers that one token is multiplied with: of experts, those that it chooses; of tables alone, none."""
    chosen = [
        (_number(n["chosen"].shape[-1]), _number(n["w"].shape[0]))
        for n, _ in tensor.uses
        if isinstance(n.op, ExpertLinear)
    ]
    if chosen:
        return _parameters(tensor) * chosen[0][0] // max(chosen[0][1], 1)
    return _parameters(tensor) if any(not isinstance(n.op, Embedding) for n, _ in tensor.uses) else 0


def _is_product(tensor: Tensor) -> bool:
    return any(node.op.kind == "linear" for node, _ in tensor.uses)


def _lengths(module: Module) -> list[int]:
    """Numbers of tokens that memory is told for: a thousand, and all that the model was made for."""
    context = module.facts.context
    return [1024] if context is None else sorted({min(1024, context), context})


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
