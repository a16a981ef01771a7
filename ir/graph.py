"""Graphs, nodes and values.

A `Graph` is in SSA form and its order has no meaning: `normalize` restores the one order that it is printed, compared
and run in.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from typing import Literal as OneOf

import numpy as np

from burnish.ir.dims import Dim
from burnish.ir.leaves import Constant, Return, Weight
from burnish.ir.op import Op
from burnish.ir.origin import Origin
from burnish.ir.signature import Role, State
from burnish.ir.text import graph_text
from burnish.ir.types import InferError, Type
from burnish.ir.walk import above, post_order

if TYPE_CHECKING:
    from burnish.ir.builder import Ops
    from burnish.ir.module import Module

__all__ = ["Graph", "Node", "Value"]

Time = OneOf["weight", "load", "run"]


class Value:
    """A graph input (`node` is None), or result `index` of a node. `uses` holds every (node, operand position)."""

    __slots__ = ("graph", "index", "name", "node", "role", "type", "uses")

    def __init__(self, graph: Graph, type: Type, node: Node | None = None, index: int = 0, name: str = "") -> None:
        self.graph, self.type, self.node, self.index, self.name = graph, type, node, index, name
        self.role: Role | None = None  # of an input
        self.uses: dict[tuple[Node, int], None] = {}

    @property
    def dtype(self) -> str:
        """The element type."""
        return self.type.dtype

    @property
    def shape(self) -> tuple[Dim, ...]:
        """The dimensions."""
        return self.type.shape

    @property
    def op(self) -> Op | None:
        """The op that makes it; None for a graph input."""
        return self.node.op if self.node is not None else None

    @property
    def users(self) -> list[Node]:
        """The nodes that read it, each once."""
        return list(dict.fromkeys(node for node, _ in self.uses))

    @property
    def readings(self) -> list[tuple[Node, str]]:
        """The nodes that read it, with the name of the operand as which they do."""
        return [(node, node.op.operand(position)) for node, position in self.uses]

    @property
    def time(self) -> Time:
        """When it can be computed: from the weights alone on any machine, at load time, or at run time."""
        return self.node.time if self.node is not None else "run"

    @property
    def is_weight(self) -> bool:
        """Whether it is known at weight time."""
        return self.time == "weight"

    @property
    def literal(self) -> np.ndarray | None:
        """The array of a constant, else None."""
        op = self.op
        return op.value.data if isinstance(op, Constant) and op.value.has_data else None

    def __iter__(self) -> Iterator[Value]:
        """All results of the node that makes it: `q, k, v = op.split(…)`."""
        return iter(self.node.outputs if self.node is not None else (self,))

    def __getitem__(self, index: int) -> Value:
        return list(self)[index]

    def __add__(self, other: Any) -> Value:
        return self.graph.ops.add(self, other)

    def __sub__(self, other: Any) -> Value:
        return self.graph.ops.sub(self, other)

    def __mul__(self, other: Any) -> Value:
        return self.graph.ops.mul(self, other)

    def __repr__(self) -> str:
        made = self.node.op.name if self.node is not None else f"input {self.name}"
        return f"<{made}: {self.type}>"


class Node:
    """One application of an op."""

    __slots__ = ("_time", "bodies", "graph", "inputs", "op", "origin", "outputs")

    def __init__(
        self,
        graph: Graph,
        op: Op,
        inputs: Sequence[Value | None],
        types: Sequence[Type],
        origin: Origin,
        bodies: Sequence[Graph] = (),
    ) -> None:
        self.graph: Graph | None = graph
        self.op, self.origin, self.bodies = op, origin, tuple(bodies)
        self.inputs: list[Value | None] = [None] * len(inputs)
        for i, v in enumerate(inputs):
            self.set_input(i, v)
        self.outputs = tuple(Value(graph, t, self, i) for i, t in enumerate(types))
        self.derive_time()

    def set_input(self, position: int, value: Value | None) -> None:
        """Read `value` at that position instead. Passes go through the engine's door, not here."""
        old = self.inputs[position]
        if old is not None:
            old.uses.pop((self, position), None)
        self.inputs[position] = value
        if value is not None:
            value.uses[self, position] = None

    @property
    def out(self) -> Value:
        """The first result."""
        return self.outputs[0]

    def __getitem__(self, name: str) -> Value:
        """The operand of that name, as `infer` calls it. Raises InferError where there is none."""
        value = self.get(name)
        if value is None:
            raise InferError(f"{self.op.name} has no operand {name} here")
        return value

    def get(self, name: str) -> Value | None:
        """The operand of that name, or None where the node does without."""
        position = self.op.position(name)
        return self.inputs[position] if position < len(self.inputs) else None

    @property
    def operands(self) -> list[Value]:
        """The inputs that are there, in order."""
        return [v for v in self.inputs if v is not None]

    @property
    def is_leaf(self) -> bool:
        """Whether it is a weight or a constant."""
        return isinstance(self.op, Weight | Constant)

    @property
    def source_tensors(self) -> tuple[str, ...]:
        """The names of the weights that it reads, directly or through weight time, each as its source called it."""
        weights = (self.graph or self.out.graph).module.weights
        found: dict[str, None] = {}
        for node in above(v for v in self.operands if v.time != "run"):
            if isinstance(node.op, Weight):
                entry = weights.get(node.op.tensor)
                found.update(dict.fromkeys((entry and entry.origin.sources) or [node.op.tensor]))
        return tuple(found)

    @property
    def time(self) -> Time:
        """When it can be computed, as of when it was made or its graph last put into the normal form."""
        return self._time

    def derive_time(self) -> None:
        """Find anew when it can be computed, from its op and what it reads."""
        self._time: Time = self._derived_time()

    def _derived_time(self) -> Time:
        if self.is_leaf:
            return "weight"
        if not self.inputs or self.op.symbols or any(o.type.symbols for o in self.outputs):
            return "run" if self.inputs or self.op.symbols else "load"
        times = {v.time for v in self.operands}
        if "run" in times:
            return "run"
        return "weight" if self.op.reproducible and times <= {"weight"} else "load"

    def __repr__(self) -> str:
        return f"<{self.op!r} of {[str(v.type) if v is not None else '_' for v in self.inputs]}>"


class Graph:
    """Nodes from named inputs to named outputs. A body (of an If, a repeat) is a graph that reads only its inputs."""

    ops: Ops  # what builds it: see `Module.graph` and `Module.body`

    def __init__(self, module: Module, name: str) -> None:
        self.module, self.name = module, name
        self.inputs: list[Value] = []
        self.roles: dict[str, Role] = {}  # of outputs
        self.output_names: list[str] = []
        self._nodes: dict[Node, None] = {}
        self._leaves: dict[tuple[str, object], Node] = {}
        self.ret = Node(self, Return(), [], [], Origin())

    def __iter__(self) -> Iterator[Node]:
        """The nodes, in order; it is safe to change the graph meanwhile."""
        return iter(list(self._nodes))

    def __contains__(self, node: object) -> bool:
        return node in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __bool__(self) -> bool:
        return True

    @property
    def outputs(self) -> dict[str, Value]:
        """The outputs by name."""
        return dict(zip(self.output_names, self.ret.operands, strict=True))

    def set_outputs(self, outputs: Mapping[str, Value], roles: Mapping[str, Role] | None = None) -> None:
        """Name the values that leave the graph, and say what they are for; names that stay keep their roles."""
        for i in range(len(self.ret.inputs)):
            self.ret.set_input(i, None)
        self.output_names, self.ret.inputs = list(outputs), [None] * len(outputs)
        for i, v in enumerate(outputs.values()):
            self.ret.set_input(i, v)
        self.roles = {k: r for k, r in (self.roles | dict(roles or {})).items() if k in outputs}

    def input(self, name: str, type: Type, role: Role | None = None) -> Value:
        """Add an input."""
        if any(v.name == name for v in self.inputs):
            raise InferError(f"graph {self.name} has two inputs called {name!r}")
        value = Value(self, type, name=name)
        value.role = role
        self.inputs.append(value)
        return value

    def input_for(self, role: Role) -> Value | None:
        """The input that is for that."""
        return next((v for v in self.inputs if v.role == role), None)

    def output_for(self, role: Role) -> Value | None:
        """The output that is for that."""
        return next((v for k, v in self.outputs.items() if self.roles.get(k) == role), None)

    @property
    def states(self) -> dict[str, Value]:
        """The inputs that are states, by name."""
        return {v.name: v for v in self.inputs if isinstance(v.role, State)}

    @property
    def symbols(self) -> set[str]:
        """The names of the symbols that its types and attributes mention, those of its bodies too."""
        found = {s for v in self.inputs for s in v.type.symbols}
        for node in self:
            found.update(node.op.symbols, *(o.type.symbols for o in node.outputs), *(b.symbols for b in node.bodies))
        return found

    def free_name(self, label: str, first: int | None = None) -> str:
        """A name that no input or output has: the label, or with a number, from `first` on where that is given."""
        taken = {v.name for v in self.inputs} | set(self.output_names)
        if first is None and label not in taken:
            return label
        return next(n for i in itertools.count(first or 0) if (n := f"{label}{i}") not in taken)

    def remove_input(self, value: Value) -> None:
        """Take away an input that nothing reads."""
        assert not value.uses, f"input {value.name} is still read"
        self.inputs.remove(value)

    def emit(
        self,
        op: Op,
        inputs: Sequence[Value | None],
        types: Sequence[Type],
        origin: Origin,
        bodies: Sequence[Graph] = (),
    ) -> Node:
        """Add a node with known result types; a leaf that is there already is returned instead."""
        key = (op.name, op.tensor if isinstance(op, Weight) else op.value if isinstance(op, Constant) else None)
        if key[1] is not None and (leaf := self._leaves.get(key)) is not None and leaf in self._nodes:
            return leaf
        node = Node(self, op, inputs, types, origin, bodies)
        self._nodes[node] = None
        if key[1] is not None:
            self._leaves[key] = node
        return node

    def erase(self, node: Node) -> None:
        """Take away a node of which nothing is used."""
        assert not any(o.uses for o in node.outputs), f"{node} is still used"
        for i in range(len(node.inputs)):
            node.set_input(i, None)
        del self._nodes[node]
        node.graph = None

    def erase_dead(self, nodes: Iterable[Node]) -> list[Node]:
        """Erase those of `nodes` that nothing uses, then their operands likewise; returns what was erased."""
        erased, work = [], list(nodes)
        while work:
            node = work.pop()
            if node.graph is not None and node is not self.ret and not any(o.uses for o in node.outputs):
                work += [v.node for v in node.operands if v.node is not None]
                self.erase(node)
                erased.append(node)
        return erased

    def replace(self, old: Value, new: Value) -> None:
        """Let every user of `old` read `new`."""
        for node, position in list(old.uses):
            node.set_input(position, new)

    def order(self) -> list[Node]:
        """The normal form: weight time first, then the rest, each operand before its user, as the outputs first ask.

        Raises ValueError, naming the nodes, where the graph has a cycle.
        """
        done = post_order([self.ret])
        post_order(self._nodes, done=done)  # nodes that nothing uses follow, in the order they were made
        del done[self.ret]
        early = [n for n in done if n.time == "weight"]
        return early + [n for n in done if n.time != "weight"]

    def normalize(self) -> None:
        """Put the nodes into the normal form, bodies too, and derive each node's time anew."""
        done = post_order([self.ret])
        post_order(self._nodes, done=done)
        del done[self.ret]
        for node in done:
            node.derive_time()
            for body in node.bodies:
                body.normalize()
        early = [n for n in done if n.time == "weight"]
        self._nodes = dict.fromkeys(early + [n for n in done if n.time != "weight"])

    def __str__(self) -> str:
        return graph_text(self)

    def to_networkx(self) -> Any:
        """The nodes as a `networkx.DiGraph`, an edge from the maker of a value to each of its users."""
        import networkx

        g = networkx.DiGraph()
        for node in self:
            g.add_node(node)
            g.add_edges_from((v.node, node) for v in node.operands if v.node is not None)
        return g
