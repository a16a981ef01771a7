"""XLA, through JAX: each graph at given sizes is one compiled function; weights are arguments, states are donated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from burnish.backends.backend import Backend, Way, find_way
from burnish.backends.binding import bind_symbols, check_guards
from burnish.backends.kernels.kernel import Kernel, run_kernel
from burnish.backends.native.once import run_static
from burnish.backends.recent import Recent
from burnish.backends.static import Static
from burnish.backends.xla_kernels import XLA_KERNELS, InStack, XlaKernel, whole
from burnish.backends.xla_kernels.repeat import RepeatAsLoop
from burnish.ir.evaluate import evaluate
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.leaves import Constant
from burnish.ir.module import Module
from burnish.ir.op import Array, Op
from burnish.ir.ops.control import Repeat
from burnish.ir.run import Body, Chosen, make_plan, read_leaf, run_graph, static_operands
from burnish.ir.signature import State
from burnish.ir.types import NUMPY, Type

__all__ = ["Xla"]

SHORTEST = 16  # tokens or cache rows; fewer are filled up, but for the single token of a decode step


@dataclass
class Xla(Backend):
    """Runs the graphs of a module as XLA compiles them, one function for each graph and sizes of its symbols."""

    module: Module
    static: Static = field(default_factory=Static)  # on the device
    kernels: Mapping[str, Kernel] = field(default_factory=lambda: XLA_KERNELS)
    compiled: Recent[Any] = field(default_factory=Recent)
    compilations: int = 0  # how many functions were compiled so far
    _ways: dict[str, dict[Node, Way]] = field(default_factory=dict, init=False)
    _weights: dict[str, list[Array]] = field(default_factory=dict, init=False)

    def __call__(self, graph: str, inputs: Mapping[str, Array], probe: Any = None) -> dict[str, Array]:
        """Run a graph on arrays by input name. Raises BindError for inputs that do not fit it or its guards."""
        if probe is not None:
            raise ValueError("XLA runs a graph as one function, node by node is for the NumPy backend")
        g = self.module.graphs[graph]
        sizes = bind_symbols(g, inputs)
        function = self.compiled.of((graph, *sorted(sizes.items())), lambda: self._compile(graph, sizes))
        with jax.enable_x64(True):
            arrays = {v.name: jnp.asarray(inputs[v.name], NUMPY[v.dtype]) for v in g.inputs}
            results: dict[str, Array] = function(*_by_state(g, arrays), self.weights(graph))
        return results

    def lower(self, graph: str, sizes: Mapping[str, int]) -> Any:
        """The function of a graph at these sizes as a `jax.stages.Lowered`: `as_text()` is its StableHLO."""
        with jax.enable_x64(True):
            return self._jitted(graph, sizes).lower(*self._arguments(graph, sizes))

    def export(self, graph: str, sizes: Mapping[str, int], platforms: Sequence[str]) -> Any:
        """The same as a `jax.export.Exported`, lowered for "cpu", "cuda" or "tpu", which need not be here.

        It calls nothing that is of this machine.
        """
        import jax.export

        anywhere = replace(self, kernels={n: k for n, k in self.kernels.items() if _runs_anywhere(k)})
        with jax.enable_x64(True):
            exported = jax.export.export(anywhere._jitted(graph, sizes), platforms=platforms)
            return exported(*self._arguments(graph, sizes))

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

    def ways(self, graph: str) -> Iterable[tuple[Node, Way]]:
        """How each node of a graph's run time runs; a body of a loop is there once."""
        return [(node, way) for node, way in self._ways_of(graph).items() if node.time == "run"]

    def weights(self, graph: str) -> list[Array]:
        """What weights and constants alone determine, on the device: the last argument of a graph's function."""
        if graph not in self._weights:
            with jax.enable_x64(True):
                on_device = partial(jax.tree.map, jnp.asarray)
                arrays = self.static.of(_arguments_of(self.module.graphs[graph]), on_device, run_static)
            self._weights[graph] = list(arrays.values())
        return self._weights[graph]

    def _compile(self, graph: str, sizes: Mapping[str, int]) -> Any:
        check_guards(self.module, sizes, partial(_all_true, sizes=sizes))
        self.compilations += 1
        with self.static.long(f"compiling {graph}"):
            return self.lower(graph, sizes).compile()

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
            return dict(zip(g.outputs, make_plan(g, known, sizes, choose)(known), strict=True))

        choose = partial(_choose, self._ways_of(graph))
        return jax.jit(function, donate_argnums=0)

    def _ways_of(self, graph: str) -> dict[Node, Way]:
        if graph not in self._ways:
            self._ways[graph] = dict(_find_ways(self.module.graphs[graph], self.kernels))
        return self._ways[graph]


def _find_ways(
    graph: Graph, kernels: Mapping[str, Kernel], stacked: Collection[Value] = (), loop: str = ""
) -> Iterator[tuple[Node, Way]]:
    """How each node runs; `stacked` are the inputs that lie in a stack, `loop` is what the plan adds within one."""
    stacked = set(stacked)
    for node in graph.order():
        lies = [(None if v is None else v.type, v in stacked) for v in node.inputs]
        types = [InStack.of(t) if t is not None and in_stack else t for t, in_stack in lies]
        way = find_way(node, types, kernels, "XLA")
        yield node, replace(way, how=way.how + loop)
        if node.op.inplace in _in_stack(way) and node[node.op.inplace] in stacked:
            stacked.add(node.out)
        for body in node.bodies:
            if isinstance(way.kernel, RepeatAsLoop):
                yield from _find_ways(body, kernels, _slots(node, body, stacked), " (in the loop)")
            else:
                yield from _find_ways(body, kernels, (), loop)


def _slots(node: Node, body: Graph, stacked: Collection[Value]) -> list[Value]:
    """The inputs of a loop's body that lie in a stack: its own, and what is shared and does."""
    assert isinstance(node.op, Repeat)
    _, shared, own = node.op.apart(body.inputs)
    _, given, _ = node.op.apart(node.operands)
    return [*own, *(v for v, outer in zip(shared, given, strict=True) if outer in stacked)]


def _runs_anywhere(kernel: Kernel) -> bool:
    return not isinstance(kernel, XlaKernel) or kernel.anywhere


def _in_stack(way: Way) -> tuple[str, ...]:
    return way.kernel.in_stack if isinstance(way.kernel, XlaKernel) else ()


def _choose(ways: Mapping[Node, Way], node: Node, op: Op, bodies: Sequence[Body]) -> Chosen:
    if node.is_leaf:
        return lambda _: (read_leaf(node),), "read"
    return partial(_run, ways[node], op, [o.dtype for o in node.outputs], bodies), ways[node].how


def _run(
    way: Way, op: Op, dtypes: Sequence[str], bodies: Sequence[Body], operands: Sequence[Array | None]
) -> tuple[Array, ...]:
    in_stack = _in_stack(way)
    operands = [x if op.operand(i) in in_stack else whole(x) for i, x in enumerate(operands)]
    if way.kernel is None:
        return evaluate(op, jnp, operands, dtypes, bodies)
    return run_kernel(way.kernel, op, dtypes, bodies, operands)


def _by_state(graph: Graph, arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs that are states, which the compiled function may write into, and the others."""
    states = {v.name: arrays[v.name] for v in graph.inputs if isinstance(v.role, State)}
    return states, {n: a for n, a in arrays.items() if n not in states}


def _arguments_of(graph: Graph) -> list[Value]:
    """The values that its function takes as weights; constants of a few numbers are part of the code."""
    return [v for v in static_operands(graph) if not (isinstance(v.op, Constant) and v.op.value.inline is not None)]


def _all_true(graph: Graph, sizes: Mapping[str, int]) -> bool:
    return all(bool(np.all(x)) for x in run_graph(graph, {}, sizes))
