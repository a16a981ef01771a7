"""What each block of a model adds to the error of a pass, apart from what it inherits from the blocks before it.

The block, as the pass left it, is given what the graph of before has in float64, and what it makes of that is compared
with what the block of before makes. A block is known by its scope; what leaves it, by its type and its sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.backends.backend import Backend, Way
from burnish.backends.binding import bind_symbols
from burnish.backends.interpreter import Interpreter
from burnish.debug.numbers import Float64, error
from burnish.debug.readings import Reading
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.module import Module
from burnish.ir.op import Array
from burnish.ir.origin import Block, block_of
from burnish.ir.run import evaluate_numpy, read_leaf
from burnish.ir.types import FLOATS, NUMPY, Type
from burnish.ir.walk import above

__all__ = ["BlockError", "added_by_blocks"]


@dataclass(frozen=True)
class BlockError:
    """The error that a block makes of exact inputs, and the error of what leaves it when all blocks run."""

    block: str
    added: float
    total: float

    def __str__(self) -> str:
        return f"{self.block} adds {self.added:.3g}, {self.total:.3g} with what it inherits"


def added_by_blocks(before: Module, after: Module, reading: Reading) -> list[BlockError]:
    """Of each block of which the same values leave in both graphs, in order; a reading of one step is best."""
    olds, news = _Runs(Float64(before)), _Runs(Interpreter(after, kernels={}))
    reading(olds, olds)
    reading(news, news)
    found: list[BlockError] = []
    for name, graph in after.graphs.items():
        if name in before.graphs and name in news.inputs and name in olds.inputs:
            found += _of_graph(before.graphs[name], graph, olds, news)
    return found


class _Runs(Backend):
    """A backend, and a probe on it, that keep the inputs of each graph's first run and every value made in it."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.module = backend, backend.module
        self.inputs: dict[str, dict[str, Array]] = {}
        self.values: dict[Value, Array] = {}

    def __call__(self, graph: str, inputs: Mapping[str, Array], probe: Any = None) -> dict[str, Array]:
        self.inputs.setdefault(graph, {k: np.array(x) for k, x in inputs.items()})  # states are written in place
        return self.backend(graph, inputs, probe)

    def zeros(self, type: Type) -> Array:
        return self.backend.zeros(type)

    def to_numpy(self, array: Array) -> np.ndarray:
        return self.backend.to_numpy(array)

    def length(self, wanted: int) -> int:
        return self.backend.length(wanted)

    def ways(self, graph: str) -> Iterable[tuple[Node, Way]]:
        return self.backend.ways(graph)

    def node(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Array], seconds: float) -> None:
        """After each node."""
        for v, x in zip(node.outputs, outputs, strict=True):
            self.values.setdefault(v, np.array(x) if isinstance(x, np.ndarray) else x)

    def finished(self, wall: float, own: float) -> None:
        """Nothing."""


def _of_graph(old: Graph, new: Graph, olds: _Runs, news: _Runs) -> Iterator[BlockError]:
    before, after = _leaving(old), _leaving(new)
    pairs = {block: _alike(before.get(block, ()), values) for block, values in after.items()}
    exact = {v: olds.values[same].astype(NUMPY[v.dtype]) for found in pairs.values() for v, same in found.items()}
    given = news.inputs[new.name]
    sizes = bind_symbols(new, given)
    for block, found in pairs.items():
        if block is None or not found:
            continue
        known = {v: given[v.name] for v in new.inputs}
        known |= {v: x for v, x in news.values.items() if v.graph is new and _block(v) != block}
        known |= {v: x for v, x in exact.items() if _block(v) != block}
        for node in above(found, known):
            dtypes = [o.dtype for o in node.outputs]
            if node.bodies:
                return
            operands = [None if v is None else known[v] for v in node.inputs]
            with np.errstate(all="ignore"):
                made = (read_leaf(node),) if node.is_leaf else evaluate_numpy(node.op.bind(sizes), operands, dtypes, ())
            known.update(zip(node.outputs, made, strict=True))
        truth = {v: olds.values[same] for v, same in found.items()}
        added = max(error(known[v], x) for v, x in truth.items())
        yield BlockError(
            f"{block.stack}[{block.index}]", added, max(error(news.values[v], x) for v, x in truth.items())
        )


def _alike(olds: Sequence[Value], news: Sequence[Value]) -> dict[Value, Value]:
    """New values, each with the old one that it stands for: of its type, and with the sources of what made it."""
    found: dict[Value, Value] = {}
    for v in news:
        same = (o for o in olds if o.type == v.type and o not in found.values() and _sources(o) <= _sources(v))
        if (old := next(same, None)) is not None:
            found[v] = old
    return found


def _sources(value: Value) -> set[str]:
    return set(value.node.origin.sources) if value.node is not None else set()


def _block(value: Value) -> Block | None:
    return block_of(value.node.origin.scope) if value.node is not None and value.time == "run" else None


def _leaving(graph: Graph) -> dict[Block | None, list[Value]]:
    """The floats made at run time that leave each block, in order; None has what is in no block."""
    found: dict[Block | None, list[Value]] = {}
    for node in graph.order():
        if node.time != "run":
            continue
        for v in node.outputs:
            block = _block(v)
            returned = any(graph.outputs[k] is v for k in graph.outputs if k not in graph.states)
            others = (u for u in v.users if u is not graph.ret)
            if v.dtype in FLOATS and (returned or any(block_of(u.origin.scope) != block for u in others)):
                found.setdefault(block, []).append(v)
    return found
