"""The verifier: what holds of every module after every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from burnish.ir import guards, signature
from burnish.ir.dims import Dim
from burnish.ir.graph import Graph, Node
from burnish.ir.guards import AllTrue, Equal, Guard
from burnish.ir.leaves import Weight
from burnish.ir.module import Module
from burnish.ir.signature import Earlier, Linked, State
from burnish.ir.text import neighbourhood
from burnish.ir.types import Type

__all__ = ["VerifyError", "same_types", "verify", "verify_nodes", "verify_signatures"]


class VerifyError(ValueError):
    """A module that is not sound: what is wrong, and the statements around it. `node` is where.

    `line` is all in one line: what is wrong, and the statement itself.
    """

    def __init__(self, message: str, node: Node | None = None) -> None:
        self.node = node
        statement = f", in: {neighbourhood(node, 0).strip('> ')}" if node is not None else ""
        self.line = " ".join((message + statement).split())
        super().__init__(message + (f"\n{neighbourhood(node)}" if node is not None else ""))


def verify(module: Module) -> None:
    """Raise VerifyError unless every graph of the module is sound.

    Operands belong to their graph, uses are recorded both ways, no node depends on itself, every type is what the op
    infers from its operands under the recorded guards, and inputs and outputs fit their roles.
    """
    for guard in module.guards:
        if isinstance(guard, AllTrue):
            _verify_graph(guard.graph, module, body=True)
            if guard.graph.inputs or [v.dtype for v in guard.graph.outputs.values()] != ["bool"]:
                raise VerifyError(f"guard {guard.reason!r}: its graph must have no inputs and one output, truth values")
    for graph in module.graphs.values():
        _verify_graph(graph, module)
    verify_signatures(module)


def _verify_graph(graph: Graph, module: Module, body: bool = False) -> None:
    if len(graph.output_names) != len(graph.ret.operands):
        raise VerifyError(f"graph {graph.name}: its outputs are not values, one for each name", graph.ret)
    if body and (graph.roles or any(v.role is not None for v in graph.inputs)):
        raise VerifyError(f"graph {graph.name}: a body has no roles")
    nodes = [*graph, graph.ret]
    for node in nodes:
        _verify_uses(node, graph)
    try:
        graph.order()
    except ValueError as e:
        raise VerifyError(str(e)) from None
    _verify_types(nodes, graph, module)


def verify_nodes(nodes: Iterable[Node], graph: Graph) -> None:
    """Raise VerifyError unless these nodes of a graph are sound; a cycle is not looked for."""
    nodes = list(nodes)
    for node in nodes:
        _verify_uses(node, graph)
    _verify_types(nodes, graph, graph.module)


def _verify_uses(node: Node, graph: Graph) -> None:
    def fault(what: str) -> VerifyError:
        return VerifyError(f"graph {graph.name}: {node.op.name}: {what}", node)

    for i, v in enumerate(node.inputs):
        if v is None:
            continue
        if v.graph is not graph or (v.node is not None and v.node not in graph):
            raise fault(f"operand {i} is not a value of this graph")
        if v.node is None and v not in graph.inputs:
            raise fault(f"operand {i} is an input that was removed")
        if (node, i) not in v.uses:
            raise fault(f"operand {i} does not record this use")
    for o in node.outputs:
        for user, i in o.uses:
            if user.graph is not graph:
                whose = f"of graph {user.graph.name}" if user.graph is not None else "that was erased"
                raise fault(f"is read by {user.op.name} {whose}")
            if i >= len(user.inputs) or user.inputs[i] is not o:
                raise fault(f"a recorded use of {o!r} is none")


def _verify_types(nodes: Iterable[Node], graph: Graph, module: Module) -> None:
    same = same_types(module.guards)
    with guards.recording(module.guards, extend=False):
        for node in nodes:
            _verify_type(node, f"graph {graph.name}: {node.op.name}", module, same)


def _verify_type(node: Node, where: str, module: Module, same: Callable[[Type, Type], bool]) -> None:
    declared = [o.type for o in node.outputs]
    if isinstance(node.op, Weight):
        entry = module.weights.get(node.op.tensor)
        if entry is None or [entry.type] != declared:
            says = f"the table says {entry.type}" if entry else "the table of weights does not have it"
            raise VerifyError(f"{where} {node.op.tensor!r}: {says}", node)
        return
    try:
        keywords = {"bodies": node.bodies} if node.op.bodies else {}
        inferred = node.op.results(*(v.type if v is not None else None for v in node.inputs), **keywords)
    except TypeError as e:  # an InferError mostly, which begins with the op's name
        says = str(e).removeprefix(f"{node.op.name}: ")
        raise VerifyError(f"{where}: {says}", node) from e
    if len(inferred) != len(declared) or not all(map(same, inferred, declared)):
        says, does = (", ".join(map(str, types)) for types in (declared, inferred))
        raise VerifyError(f"{where}: its type is {says}, but the op infers {does}", node)
    if len(node.bodies) != node.op.bodies:
        raise VerifyError(f"{where}: has {len(node.bodies)} bodies, needs {node.op.bodies}", node)
    for body in node.bodies:
        _verify_graph(body, module, body=True)


def verify_signatures(module: Module) -> None:
    """Raise VerifyError unless the inputs and outputs of every graph are what their roles say."""
    for graph in module.graphs.values():
        tokens = graph.input_for(signature.TOKENS)
        seen = set()
        for v in graph.inputs:
            if v.role is None:
                continue
            where = f"graph {graph.name}: input {v.name}, {v.type}, is not {v.role}"
            if why := signature.why_not_input(v.role, v.type, tokens.type if tokens is not None else None):
                raise VerifyError(f"{where}: {why}")
            if v.role in seen and not isinstance(v.role, State | Earlier):
                raise VerifyError(f"{where}: another input is")
            seen.add(v.role)
            if isinstance(v.role, Linked):
                _verify_link(module, v.role, v.type, where)
            if isinstance(v.role, State):
                new = graph.outputs.get(v.name)
                if new is None or new.type != v.type or graph.roles.get(v.name) != v.role:
                    raise VerifyError(f"{where}: no output of its name, type and role returns it")
        for name, role in graph.roles.items():
            out = graph.outputs[name]
            if why := signature.why_not_output(role, out.type):
                raise VerifyError(f"graph {graph.name}: output {name}, {out.type}, is not {role}: {why}")
            if isinstance(role, State) and name not in graph.states:
                raise VerifyError(f"graph {graph.name}: output {name} is {role}, but no input of that name is")


def _verify_link(module: Module, role: Linked, type: Type, where: str) -> None:
    other = module.graphs.get(role.graph)
    given = {v.name: v for v in other.inputs} | other.outputs if other is not None else {}
    value = given.get(role.name)
    if value is None or value.type != type:
        has = "there is none" if value is None else f"that is {value.type}"
        raise VerifyError(f"{where}: of {role.name!r} in graph {role.graph!r}, {has}")


def same_types(known: Iterable[Guard]) -> Callable[[Type, Type], bool]:
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
        return alike and (a.shape == b.shape or all(find(x) == find(y) for x, y in zip(a.shape, b.shape, strict=True)))

    return same
