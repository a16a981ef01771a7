"""The NumPy interpreter: the reference, and the embedded default.

A graph with its symbols bound becomes a plan of steps; what does not depend on inputs is computed once, buffers are
freed at their last use, compiled kernels run where their table has one.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np

from burnish.backends.backend import Backend, Way, find_way
from burnish.backends.binding import bind_symbols, check_guards
from burnish.backends.kernels import KERNELS
from burnish.backends.kernels.kernel import Kernel, NativeKernel, run_kernel
from burnish.backends.native.cpu import instruction_set
from burnish.backends.native.once import run_static
from burnish.backends.native.plan import Emitted, NativePlan
from burnish.backends.native.program import Room
from burnish.backends.native.shelf import shelved
from burnish.backends.recent import Recent
from burnish.backends.static import Static
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.module import Module
from burnish.ir.op import Array, Op
from burnish.ir.run import Body, Chosen, Plan, Probe, evaluate_numpy, make_plan, static_operands
from burnish.ir.signature import State
from burnish.ir.types import NUMPY, Type
from burnish.ir.walk import every_graph

__all__ = ["Interpreter"]


@dataclass
class Interpreter(Backend):
    """Runs the graphs of a module on NumPy. Plans are kept by the sizes that the symbols are bound to.

    `kernels` are those that may run. With `check`, each result is held to the type that the graph declares: RunError.
    """

    has_probes: ClassVar[bool] = True
    module: Module
    static: Static = field(default_factory=Static)
    kernels: Mapping[str, Kernel] = field(default_factory=lambda: KERNELS)
    check: bool = False
    plans: Recent[Plan | NativePlan] = field(default_factory=Recent)
    room: Room = field(default_factory=Room)
    _ways: dict[Node, Way] = field(default_factory=dict)
    _statics: dict[Graph, Mapping[Value, Array]] = field(default_factory=dict)

    def __call__(self, graph: str, inputs: Mapping[str, Array], probe: Probe | None = None) -> dict[str, Array]:
        """Run a graph on arrays by input name. Raises ValueError for inputs that do not fit it or its guards."""
        g = self.module.graphs[graph]
        sizes = bind_symbols(g, inputs)
        key = (graph, *sorted(sizes.items()))
        plan = self.plans.of(key, lambda: self.guarded_plan(g, sizes))
        return dict(zip(g.outputs, plan({v: inputs[v.name] for v in g.inputs}, probe, self.check), strict=True))

    @property
    def same_bits(self) -> bool:
        """Where all sums are those of kernels: NumPy's depend on how many rows there are."""
        graphs = self.module.graphs
        return all(way.kernel is not None or not _sums(node) for name in graphs for node, way in self.ways(name))

    def zeros(self, type: Type) -> Array:
        """An empty state."""
        return np.zeros(type.sizes, NUMPY[type.dtype])

    def to_numpy(self, array: Array) -> np.ndarray:
        """It is one already."""
        return np.asarray(array)

    def length(self, wanted: int) -> int:
        """Just what is wanted."""
        return wanted

    def ways(self, graph: str) -> Iterable[tuple[Node, Way]]:
        """How each node of a graph's run time runs."""
        for g in every_graph([self.module.graphs[graph]]):
            yield from ((node, self.way(node)) for node in g.order() if node.time == "run")

    def way(self, node: Node) -> Way:
        """How a node runs: into the state that it alone reads, by a kernel, or as NumPy evaluates it."""
        if node not in self._ways:
            self._ways[node] = self._found_way(node)
        return self._ways[node]

    def _found_way(self, node: Node) -> Way:
        in_place = _writes_in_place(node)
        if node.op.inplace is not None and not in_place:
            return Way("numpy", why_not="something else reads what it would write into")
        types = [None if v is None else v.type for v in node.inputs]
        otherwise = "numpy, in place" if in_place else "numpy"
        return find_way(node, types, self._table(node), otherwise)

    def plan_text(self, graph: str) -> str:
        """How many nodes run how, and why not by a kernel; and how many stand together in each program."""
        lines = Counter(
            f"{node.op.name}: {way.how}{'' if way.kernel or way.dequantizes else f' ({way.why_not})'}"
            for node, way in self.ways(graph)
        )
        nodes = [node for node in self.module.graphs[graph].order() if node.time == "run"]
        native = [isinstance(self.way(node).kernel, NativeKernel) for node in nodes]
        sizes = [len(list(run)) for is_native, run in itertools.groupby(native) if is_native]
        head = f"programs: {len(sizes)}, the largest of {max(sizes)} nodes" if sizes else "programs: none"
        return "\n".join([head, *(f"{count} x {line}" for line, count in lines.items())])

    def _table(self, node: Node) -> Mapping[str, Kernel]:
        """The kernels for a node: programs are made of the nodes of graphs, not of those of bodies."""
        if any(node.out.graph is g for g in self.module.graphs.values()):
            return self.kernels
        return {name: k for name, k in self.kernels.items() if not isinstance(k, NativeKernel)}

    def run_guard(self, graph: Graph, sizes: Mapping[str, int]) -> bool:
        """Whether the only output of a guard's graph is all true."""
        (result,) = self.plan(graph, sizes)({})
        return bool(np.all(result))

    def guarded_plan(self, graph: Graph, sizes: Mapping[str, int]) -> Plan | NativePlan:
        """The steps of a graph at sizes that break no guard. Raises BindError."""
        check_guards(self.module, sizes, partial(self.run_guard, sizes=sizes))
        return self.plan(graph, sizes)

    def plan(self, graph: Graph, sizes: Mapping[str, int]) -> Plan | NativePlan:
        """The steps of a graph at these sizes."""
        static = self._statics.get(graph)
        if static is None:
            by_kernels = partial(run_static, kernels=self.kernels)
            static = self._statics[graph] = self.static.of(static_operands(graph), shelved, by_kernels)
        plan = make_plan(graph, graph.inputs, sizes, self._choose, self.check, static)
        isa = instruction_set()
        if isa is None or not any(isinstance(step.run, Emitted) for step in plan.steps):
            return plan
        return NativePlan(plan, self.room, isa, self.static.progress)

    def _choose(self, node: Node, op: Op, bodies: Sequence[Body]) -> Chosen:
        dtypes, way = [o.dtype for o in node.outputs], self.way(node)
        if isinstance(way.kernel, NativeKernel):
            return Emitted(way.kernel, op), way.how
        if _writes_in_place(node):
            return partial(_overwrite, op), way.how
        if way.kernel is not None:
            return partial(run_kernel, way.kernel, op, dtypes, bodies), way.how
        return partial(evaluate_numpy, op, dtypes=dtypes, bodies=bodies), way.how


def _writes_in_place(node: Node) -> bool:
    """Whether the node is the only one to read a state that its op can write into."""
    state = node[node.op.inplace] if node.op.inplace is not None else None
    return state is not None and isinstance(state.role, State) and len(state.uses) == 1


def _overwrite(op: Op, operands: Sequence[Array]) -> tuple[Array, ...]:
    results = op.overwrite(*operands)
    return results if isinstance(results, tuple) else (results,)


def _sums(node: Node) -> bool:
    """Whether NumPy adds up numbers in an order of its own choice, or computes otherwise in a longer array."""
    return node.op.kind != "memory" and not node.op.reproducible
