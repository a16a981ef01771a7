"""The NumPy interpreter: the reference, and the embedded default.

A graph with its symbols bound becomes a plan of steps; what does not depend on inputs is computed once, buffers are
freed at their last use, compiled kernels run where their table has one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Protocol

import numpy as np

from burnish.backends.binding import bind_symbols, check_guards
from burnish.backends.kernels import Kernel, find_kernel
from burnish.backends.static import evaluate_numpy, static_operands, static_values
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.module import Module
from burnish.ir.op import Array, Op
from burnish.ir.types import NUMPY, Type

__all__ = ["Interpreter", "Plan", "Probe", "Step"]


class Probe(Protocol):
    """Watches the interpreter, node by node. Every second of a run is a node's or the probe's own."""

    def node(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Array], seconds: float) -> None:
        """After each node: its time, what the interpreter does around it included."""

    def finished(self, wall: float, own: float) -> None:
        """After a run: the time from its first step to its last, and how much of it the probe took itself."""


@dataclass(frozen=True)
class Step:
    """One node, its symbols bound: what it reads and writes, and what is freed afterwards."""

    node: Node
    op: Op
    inputs: tuple[Value | None, ...]
    run: Callable[..., tuple[Array, ...]]
    how: str  # "numpy", or the kernel's name
    frees: tuple[Value, ...]


@dataclass
class Plan:
    """A graph at given sizes, ready to run."""

    graph: Graph
    steps: list[Step]
    static: Mapping[Value, Array]

    def __call__(
        self, inputs: Mapping[str, Array], probe: Probe | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> dict[str, Array]:
        """Run it."""
        values: dict[Value, Array] = {**self.static}
        values.update((v, inputs[v.name]) for v in self.graph.inputs)
        began = at = clock() if probe else 0.0
        own = 0.0
        for step in self.steps:
            operands = [None if v is None else values[v] for v in step.inputs]
            results = step.run(operands)
            values.update(zip(step.node.outputs, results, strict=True))
            for v in step.frees:
                del values[v]
            if probe:
                done = clock()
                probe.node(step.node, operands, results, done - at)
                at = clock()
                own += at - done
        if probe:
            probe.finished(at - began, own)
        return {name: values[v] for name, v in self.graph.outputs.items()}


@dataclass
class Interpreter:
    """Runs the graphs of a module on NumPy. Plans are kept by the sizes that the symbols are bound to."""

    name: ClassVar[str] = "numpy"
    module: Module
    plans: dict[tuple[object, ...], Plan] = field(default_factory=dict)
    static: dict[Value, Array] = field(default_factory=dict)  # what weights and constants alone determine

    def __call__(self, graph: str, inputs: Mapping[str, Array], probe: Probe | None = None) -> dict[str, Array]:
        """Run a graph on arrays by input name. Raises ValueError for inputs that do not fit it or its guards."""
        g = self.module.graphs[graph]
        sizes = bind_symbols(g, inputs)
        key = (graph, tuple(sorted(sizes.items())))
        plan = self.plans.get(key)
        if plan is None:
            check_guards(self.module, sizes, partial(self.run_guard, sizes=sizes))
            plan = self.plans[key] = self.plan(g, sizes)
        return plan(inputs, probe)

    def zeros(self, type: Type) -> Array:
        """An empty state."""
        return np.zeros(type.sizes, NUMPY[type.dtype])

    def to_numpy(self, array: Array) -> np.ndarray:
        """It is one already."""
        return np.asarray(array)

    def length(self, wanted: int) -> int:
        """Just what is wanted."""
        return wanted

    def plan_text(self, graph: str) -> str:
        """How many nodes of each op run how."""
        ways: dict[str, int] = {}
        for node in self.module.graphs[graph].order():
            if node.time == "run":
                line = f"{node.op.name}: {_way(node)[1]}"
                ways[line] = ways.get(line, 0) + 1
        return "\n".join(f"{count} x {line}" for line, count in ways.items())

    def fallbacks(self, graph: str) -> list[str]:
        """The products with quantized operands that no kernel runs."""
        nodes = [n for n in self.module.graphs[graph].order() if n.time == "run" and _is_packed_product(n)]
        ways = [(n, *_way(n)) for n in nodes]
        return [f"{n.op.name}({', '.join(str(v.type) for v in n.operands)}): {how}" for n, k, how in ways if k is None]

    def run_guard(self, graph: Graph, sizes: Mapping[str, int]) -> bool:
        """Whether the only output of a guard's graph is all true."""
        (result,) = self.plan(graph, sizes)({}).values()
        return bool(np.all(result))

    def plan(self, graph: Graph, sizes: Mapping[str, int]) -> Plan:
        """The steps of a graph at these sizes."""
        order = graph.order()
        last: dict[Value, Node] = {v: node for node in order for v in node.operands}
        kept = {*graph.outputs.values(), *graph.inputs}
        steps = []
        for node in order:
            if node.time != "run":
                continue
            frees = [v for v in dict.fromkeys(node.operands) if last[v] is node and v not in kept and v.time == "run"]
            frees += [o for o in node.outputs if not o.uses]
            run, how = self._how(node, node.op.bind(sizes), sizes)
            steps.append(Step(node, node.op, tuple(node.inputs), run, how, tuple(frees)))
        static = static_operands(graph)
        self.static.update(static_values(v for v in static if v not in self.static))
        return Plan(graph, steps, {v: self.static[v] for v in static})

    def _how(self, node: Node, op: Op, sizes: Mapping[str, int]) -> tuple[Callable[..., tuple[Array, ...]], str]:
        dtypes = [o.dtype for o in node.outputs]
        bodies = [_body(self.plan(b, sizes)) for b in node.bodies]
        kernel, how = _way(node)
        if _writes_in_place(node):
            return partial(_overwrite, op), how
        if kernel is not None:
            return partial(_compiled, kernel, op, dtypes=dtypes), how
        return partial(evaluate_numpy, op, dtypes=dtypes, bodies=bodies), how


def _way(node: Node) -> tuple[Kernel | None, str]:
    """The kernel that runs a node, if one does; and how it runs, in words."""
    if _writes_in_place(node):
        return None, "numpy, in place"
    kernel, why_not = find_kernel(node.op, [None if v is None else v.type for v in node.inputs])
    if kernel is not None:
        return kernel, f"kernel {kernel.name}"
    return None, f"numpy, dequantized ({why_not})" if _is_packed_product(node) else "numpy"


def _is_packed_product(node: Node) -> bool:
    return node.op.kind in ("linear", "matmul") and any(v.type.format for v in node.operands)


def _compiled(kernel: Kernel, op: Op, operands: Sequence[Array | None], dtypes: Sequence[str]) -> tuple[Array, ...]:
    return kernel(op, operands, dtypes)


def _writes_in_place(node: Node) -> bool:
    """Whether the node is the only one to read a state that its op can write into."""
    at = node.op.inplace
    state = node.inputs[at] if at is not None else None
    if state is None or state.node is not None or len(state.uses) != 1:
        return False
    graph = state.graph  # the inputs of a body are not states: the graph around may still read what they are given
    return graph.module.graphs.get(graph.name) is graph and state.name in graph.outputs


def _overwrite(op: Op, operands: Sequence[Array]) -> tuple[Array, ...]:
    results = op.overwrite(*operands)
    return results if isinstance(results, tuple) else (results,)


def _body(plan: Plan) -> Callable[..., tuple[Array, ...]]:
    names = [v.name for v in plan.graph.inputs]

    def run(*operands: Array) -> tuple[Array, ...]:
        return tuple(plan(dict(zip(names, operands, strict=True))).values())

    return run
