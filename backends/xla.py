"""XLA, through JAX: each graph at given sizes is one compiled function; weights are arguments, states are donated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from burnish.backends.binding import bind_symbols, check_guards
from burnish.backends.xla_kernels import UNPACKED, evaluate_xla, how
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.leaves import Constant, Weight
from burnish.ir.module import Module
from burnish.ir.op import Array
from burnish.ir.run import run_graph, static_operands, static_values
from burnish.ir.signature import State
from burnish.ir.types import NUMPY, Type

__all__ = ["Xla"]

SHORTEST = 16  # tokens or cache rows; fewer are filled up, but for the single token of a decode step


@dataclass
class Xla:
    """Runs the graphs of a module as XLA compiles them, one function for each graph and sizes of its symbols."""

    name: ClassVar[str] = "xla"
    module: Module
    compiled: dict[tuple[object, ...], Any] = field(default_factory=dict)
    _weights: dict[str, dict[Value, Array]] = field(default_factory=dict)
    _tensors: dict[str, Array] = field(default_factory=dict)  # on the device, by the weight's name

    @property
    def compilations(self) -> int:
        """How many functions were compiled so far."""
        return len(self.compiled)

    def __call__(self, graph: str, inputs: Mapping[str, Array], probe: Any = None) -> dict[str, Array]:
        """Run a graph on arrays by input name. Raises BindError for inputs that do not fit it or its guards."""
        if probe is not None:
            raise ValueError("XLA runs a graph as one function, node by node is for the NumPy backend")
        g = self.module.graphs[graph]
        sizes = bind_symbols(g, inputs)
        key = (graph, *sorted(sizes.items()))
        if key not in self.compiled:
            check_guards(self.module, sizes, partial(_all_true, sizes=sizes))
            self.compiled[key] = self.lower(graph, sizes).compile()
        with jax.enable_x64(True):
            arrays = {v.name: jnp.asarray(inputs[v.name], NUMPY[v.dtype]) for v in g.inputs}
            results: dict[str, Array] = self.compiled[key](*_by_state(g, arrays), self.weights(graph))
        return results

    def lower(self, graph: str, sizes: Mapping[str, int]) -> Any:
        """The function of a graph at these sizes as a `jax.stages.Lowered`: `as_text()` is its StableHLO."""
        with jax.enable_x64(True):
            return self._jitted(graph, sizes).lower(*self._arguments(graph, sizes))

    def export(self, graph: str, sizes: Mapping[str, int], platforms: Sequence[str]) -> Any:
        """The same as a `jax.export.Exported`, lowered for "cpu", "cuda" or "tpu", which need not be here."""
        import jax.export

        with jax.enable_x64(True):
            return jax.export.export(self._jitted(graph, sizes), platforms=platforms)(*self._arguments(graph, sizes))

    def zeros(self, type: Type) -> Array:
        """An empty state."""
        with jax.enable_x64(True):
            return jnp.zeros(type.sizes, NUMPY[type.dtype])

    def to_numpy(self, array: Array) -> np.ndarray:
        """A copy on the host."""
        return np.asarray(array)

    def length(self, wanted: int) -> int:
        """1, or the next power of two from 16 on: each length is compiled once."""
        return wanted if wanted <= 1 else max(SHORTEST, 1 << (wanted - 1).bit_length())

    def plan_text(self, graph: str) -> str:
        """How many nodes of each op run how; those in a loop are counted once."""
        ways: dict[str, int] = {}
        for node, in_loop in _nodes(self.module.graphs[graph]):
            if node.time == "run":
                types = [None if v is None else v.type for v in node.inputs]
                line = f"{node.op.name}: {how(node.op, types, in_loop)}{' (in the loop)' if in_loop else ''}"
                ways[line] = ways.get(line, 0) + 1
        return "\n".join(f"{count} x {line}" for line, count in ways.items())

    def fallbacks(self, graph: str) -> list[str]:
        """The products whose quantized weights are unpacked as a whole, not a block of rows at a time."""
        found = []
        for node, in_loop in _nodes(self.module.graphs[graph]):
            way = how(node.op, [None if v is None else v.type for v in node.inputs], in_loop)
            if node.time == "run" and UNPACKED in way:
                found.append(f"{node.op.name}({', '.join(str(v.type) for v in node.operands)}): {way}")
        return found

    def weights(self, graph: str) -> list[Array]:
        """What weights and constants alone determine, on the device: the last argument of a graph's function."""
        wanted = _arguments_of(self.module.graphs[graph])
        if graph not in self._weights:
            made = self._weights[graph] = {v: self._tensors[t] for v in wanted if (t := _tensor(v)) in self._tensors}
            with jax.enable_x64(True):
                for v, array in static_values(v for v in wanted if v not in made):
                    made[v] = jax.tree.map(jnp.asarray, array)
                    if tensor := _tensor(v):
                        self._tensors[tensor] = made[v]
        return [self._weights[graph][v] for v in wanted]

    def _arguments(self, graph: str, sizes: Mapping[str, int]) -> tuple[Any, ...]:
        g = self.module.graphs[graph]
        types = {v.name: v.type.bind(sizes) for v in g.inputs}
        struct: Any = jax.ShapeDtypeStruct  # JAX gives its constructor no types
        shapes = {n: struct(t.sizes, NUMPY[t.dtype]) for n, t in types.items()}
        return (*_by_state(g, shapes), self.weights(graph))

    def _jitted(self, graph: str, sizes: Mapping[str, int]) -> Any:
        g = self.module.graphs[graph]

        def function(states: dict[str, Array], others: dict[str, Array], weights: list[Array]) -> dict[str, Array]:
            known = {v: (states | others)[v.name] for v in g.inputs}
            known |= dict(zip(_arguments_of(g), weights, strict=True))
            return dict(zip(g.outputs, run_graph(g, known, sizes, evaluate_xla), strict=True))

        return jax.jit(function, donate_argnums=0)


def _by_state(graph: Graph, arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs that are states, which the compiled function may write into, and the others."""
    states = {v.name: arrays[v.name] for v in graph.inputs if isinstance(v.role, State)}
    return states, {n: a for n, a in arrays.items() if n not in states}


def _arguments_of(graph: Graph) -> list[Value]:
    """The values that its function takes as weights; constants of a few numbers are part of the code."""
    return [v for v in static_operands(graph) if not (isinstance(v.op, Constant) and v.op.value.inline is not None)]


def _tensor(value: Value) -> str:
    """The name of the weight that it is, or ""."""
    return value.op.tensor if isinstance(value.op, Weight) else ""


def _all_true(graph: Graph, sizes: Mapping[str, int]) -> bool:
    return all(bool(np.all(x)) for x in run_graph(graph, {}, sizes))


def _nodes(graph: Graph, in_loop: bool = False) -> Iterator[tuple[Node, bool]]:
    for node in graph:
        yield node, in_loop
        for body in node.bodies:
            yield from _nodes(body, in_loop or node.op.name == "repeat")
