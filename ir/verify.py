"""The verifier: what holds of every module after every pass."""

from __future__ import annotations

from collections.abc import Callable

from burnish.ir import guards
from burnish.ir.dims import Dim
from burnish.ir.graph import Graph, Node, Weight
from burnish.ir.guards import AllTrue, Equal, Guard
from burnish.ir.module import Module
from burnish.ir.text import neighbourhood
from burnish.ir.types import Type

__all__ = ["VerifyError", "same_types", "verify"]


class VerifyError(ValueError):
    """A module that is not sound: what is wrong, and the statements around it. `node` is where."""

    def __init__(self, message: str, node: Node | None = None) -> None:
        self.node = node
        super().__init__(message + (f"\n{neighbourhood(node)}" if node is not None else ""))


def verify(module: Module) -> None:
    """Raise VerifyError unless every graph of the module is sound.

    Operands belong to their graph, uses are recorded both ways, no node depends on itself, and every type is what
    the op infers from its operands under the recorded guards.
    """
    for guard in module.guards:
        if isinstance(guard, AllTrue):
            _verify_graph(guard.graph, module)
            if guard.graph.inputs or [v.dtype for v in guard.graph.outputs.values()] != ["bool"]:
                raise VerifyError(f"guard {guard.reason!r}: its graph must have no inputs and one output, truth values")
    for graph in module.graphs.values():
        _verify_graph(graph, module)


def _verify_graph(graph: Graph, module: Module) -> None:
    if len(graph.output_names) != len(graph.ret.operands):
        raise VerifyError(f"graph {graph.name}: its outputs are not values, one for each name", graph.ret)
    nodes = [*graph, graph.ret]
    for node in nodes:
        where = f"graph {graph.name}: {node.op.name}"
        for i, v in enumerate(node.inputs):
            if v is None:
                continue
            if v.graph is not graph or (v.node is not None and v.node not in graph):
                raise VerifyError(f"{where}: operand {i} is not a value of this graph", node)
            if v.node is None and v not in graph.inputs:
                raise VerifyError(f"{where}: operand {i} is an input that was removed", node)
            if (node, i) not in v.uses:
                raise VerifyError(f"{where}: operand {i} does not record this use", node)
        for o in node.outputs:
            for user, i in o.uses:
                if user.graph is not graph:
                    whose = f"of graph {user.graph.name}" if user.graph is not None else "that was erased"
                    raise VerifyError(f"{where}: is read by {user.op.name} {whose}", node)
                if user.inputs[i] is not o:
                    raise VerifyError(f"{where}: a recorded use of {o!r} is none", node)
    try:
        graph.order()
    except ValueError as e:
        raise VerifyError(str(e)) from None
    for node in nodes:
        where = f"graph {graph.name}: {node.op.name}"
        _verify_types(node, module, where)
        if len(node.bodies) != node.op.bodies:
            raise VerifyError(f"{where}: has {len(node.bodies)} bodies, needs {node.op.bodies}", node)
        for body in node.bodies:
            _verify_graph(body, module)


def _verify_types(node: Node, module: Module, where: str) -> None:
    declared = [o.type for o in node.outputs]
    if isinstance(node.op, Weight):
        entry = module.weights.get(node.op.tensor)
        if entry is None or [entry.type] != declared:
            known = f"the table says {entry.type}" if entry else "the table of weights does not have it"
            raise VerifyError(f"{where} {node.op.tensor!r}: {known}", node)
        return
    assumed = list(module.guards)
    try:
        with guards.recording(assumed):
            keywords = {"bodies": node.bodies} if node.op.bodies else {}
            inferred = node.op.results(*(v.type if v is not None else None for v in node.inputs), **keywords)
    except TypeError as e:
        raise VerifyError(f"{where}: {e}", node) from None
    if len(assumed) > len(module.guards):
        raise VerifyError(f"{where}: assumes {assumed[-1]}, which is not recorded as a guard", node)
    if len(inferred) != len(declared) or not all(map(same_types(module.guards), inferred, declared)):
        raise VerifyError(
            f"{where}: its type is {', '.join(map(str, declared))}, but the op infers {', '.join(map(str, inferred))}",
            node,
        )


def same_types(known: list[Guard]) -> Callable[[Type, Type], bool]:
    """Equality of types under guards: dimensions that a guard says are equal count as equal."""
    parent: dict[Dim, Dim] = {}

    def find(d: Dim) -> Dim:
        while d in parent:
            d = parent[d]
        return d

    for g in known:
        if isinstance(g, Equal) and (a := find(g.a)) != (b := find(g.b)):
            parent[a] = b

    def same(a: Type, b: Type) -> bool:
        alike = a.dtype == b.dtype and a.layout == b.layout and a.rank == b.rank
        return alike and all(find(x) == find(y) for x, y in zip(a.shape, b.shape, strict=True))

    return same
