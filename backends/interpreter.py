"""The NumPy interpreter: the reference, and the embedded default.

A graph with its symbols bound becomes a plan of steps; what does not depend on inputs is computed once, buffers are
freed at their last use, compiled kernels run where their table has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np

from burnish.backends.binding import bind_symbols, check_guards
from burnish.backends.kernels import Kernel, find_kernel
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.module import Module
from burnish.ir.op import Array, Op
from burnish.ir.run import Body, Chosen, Plan, Probe, evaluate_numpy, make_plan, static_operands, static_values
from burnish.ir.signature import State
from burnish.ir.types import NUMPY, Type

__all__ = ["Interpreter"]


@dataclass
class Interpreter:
    """Runs the graphs of a module on NumPy. Plans are kept by the sizes that the symbols are bound to.

    With `check`, each result is held to the type that the graph declares: RunError.
    """

    name: ClassVar[str] = "numpy"
    module: Module
    plans: dict[tuple[object, ...], Plan] = field(default_factory=dict)
    static: dict[Value, Array] = field(default_factory=dict)  # what weights and constants alone determine
    check: bool = False

    def __call__(self, graph: str, inputs: Mapping[str, Array], probe: Probe | None = None) -> dict[str, Array]:
        """Run a graph on arrays by input name. Raises ValueError for inputs that do not fit it or its guards."""
        g = self.module.graphs[graph]
        sizes = bind_symbols(g, inputs)
        key = (graph, tuple(sorted(sizes.items())))
        plan = self.plans.get(key)
        if plan is None:
            check_guards(self.module, sizes, partial(self.run_guard, sizes=sizes))
            plan = self.plans[key] = self.plan(g, sizes)
        return dict(zip(g.outputs, plan({v: inputs[v.name] for v in g.inputs}, probe, self.check), strict=True))

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
        (result,) = self.plan(graph, sizes)({})
        return bool(np.all(result))

    def plan(self, graph: Graph, sizes: Mapping[str, int]) -> Plan:
        """The steps of a graph at these sizes."""
        wanted = static_operands(graph)
        self.static.update(static_values(v for v in wanted if v not in self.static))
        static = {v: self.static[v] for v in wanted}
        return make_plan(graph, graph.inputs, sizes, _choose, self.check, static)


def _choose(node: Node, op: Op, bodies: Sequence[Body]) -> Chosen:
    dtypes = [o.dtype for o in node.outputs]
    kernel, how = _way(node)
    if _writes_in_place(node):
        return partial(_overwrite, op), how
    if kernel is not None:
        return partial(_compiled, kernel, op, dtypes), how
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


def _compiled(kernel: Kernel, op: Op, dtypes: Sequence[str], operands: Sequence[Array | None]) -> tuple[Array, ...]:
    return kernel(op, dtypes, *operands)


def _writes_in_place(node: Node) -> bool:
    """Whether the node is the only one to read a state that its op can write into."""
    state = node[node.op.inplace] if node.op.inplace is not None else None
    return state is not None and isinstance(state.role, State) and len(state.uses) == 1


def _overwrite(op: Op, operands: Sequence[Array]) -> tuple[Array, ...]:
    results = op.overwrite(*operands)
    return results if isinstance(results, tuple) else (results,)
