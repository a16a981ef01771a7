"""What a graph means: run node by node, in one place, whatever evaluates a node.

A graph with its symbols bound becomes a plan of steps. Each backend says how a node's op is run; results are freed at
their last use, and can be held to the types that the graph declares.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from burnish.ir.budget import check_run, check_work
from burnish.ir.dims import Dim
from burnish.ir.evaluate import evaluate
from burnish.ir.format import Packed, QuantizeError
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.leaves import Constant, Weight
from burnish.ir.literal import NoDataError
from burnish.ir.op import Array, Op
from burnish.ir.ops.quantization import Quantize
from burnish.ir.origin import dotted
from burnish.ir.text import neighbourhood
from burnish.ir.types import NUMPY
from burnish.ir.walk import above

__all__ = [
    "Body",
    "Plan",
    "Probe",
    "Run",
    "RunError",
    "RunStatic",
    "Step",
    "check_results",
    "evaluate_known",
    "evaluate_numpy",
    "make_plan",
    "read_leaf",
    "run_graph",
    "static_operands",
    "static_values",
]

Body = Callable[..., tuple[Array, ...]]
#: op, operands, element types of the results, bodies -> results
Run = Callable[[Op, Sequence[Array | None], Sequence[str], Sequence[Body]], tuple[Array, ...]]
#: a node that is known before run time, operands -> results, or None
RunStatic = Callable[[Node, Sequence[Array | None]], tuple[Array, ...] | None]
#: what runs a node, its operands given; and how, in words
Chosen = tuple[Callable[[Sequence[Array | None]], tuple[Array, ...]], str]


class RunError(TypeError):
    """A result that is not of the type that its graph declares."""


class Probe(Protocol):
    """Watches a run, node by node. Every second of it is a node's or the probe's own."""

    def node(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Array], seconds: float) -> None:
        """After each node: its time, what is done around it included."""

    def finished(self, wall: float, own: float) -> None:
        """After a run: the time from its first step to its last, and how much of it the probe took itself."""


@dataclass(frozen=True)
class Step:
    """One node, its symbols bound: what runs it, how, and what is freed afterwards."""

    node: Node
    inputs: tuple[Value | None, ...]
    run: Callable[[Sequence[Array | None]], tuple[Array, ...]]
    how: str
    frees: tuple[Value, ...]


@dataclass(frozen=True)
class Plan:
    """A graph at given sizes, ready to run; `static` are values that are the same in every run."""

    graph: Graph
    steps: Sequence[Step]
    sizes: Mapping[str, Dim]
    static: Mapping[Value, Array]

    def __call__(
        self,
        known: Mapping[Value, Array],
        probe: Probe | None = None,
        check: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> tuple[Array, ...]:
        """The outputs, from the values that were to be known. With `check`, raises RunError for another type."""
        values = {**self.static, **known}
        began = at = clock() if probe else 0.0
        own = 0.0
        for step in self.steps:
            operands = [None if v is None else values[v] for v in step.inputs]
            results = step.run(operands)
            if check:
                check_results(step.node, results, self.sizes)
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
        return tuple(values[v] for v in self.graph.outputs.values())


def make_plan(
    graph: Graph,
    known: Iterable[Value],
    sizes: Mapping[str, Dim],
    choose: Callable[[Node, Op, Sequence[Body]], Chosen],
    check: bool = False,
    static: Mapping[Value, Array] = {},
) -> Plan:
    """The steps from known values and static ones to the outputs of a graph.

    `choose` is given a node's op with its symbols bound, and says what runs it. Raises BudgetError for what does not
    fit into memory at these sizes.
    """
    outputs, known = graph.outputs.values(), {*known, *static}
    nodes = above(outputs, known)
    last = {v: node for node in nodes for v in node.operands}
    kept = set(outputs)
    steps = []
    for node in nodes:
        bodies = [_body(make_plan(b, b.inputs, sizes, choose, check), check) for b in node.bodies]
        run, how = choose(node, node.op.bind(sizes), bodies)
        frees = [v for v in dict.fromkeys(node.operands) if last[v] is node and v not in kept and v not in known]
        frees += [o for o in node.outputs if o not in last and o not in kept]
        steps.append(Step(node, tuple(node.inputs), run, how, tuple(frees)))
    check_run(graph, ((s.node, s.frees) for s in steps), sizes)
    return Plan(graph, steps, sizes, static)


def run_graph(
    graph: Graph,
    known: Mapping[Value, Array],
    sizes: Mapping[str, Dim] | None = None,
    run: Run | None = None,
    check: bool = False,
) -> tuple[Array, ...]:
    """The outputs of a graph; `known` holds its inputs, and whatever else need not be computed."""

    def choose(node: Node, op: Op, bodies: Sequence[Body]) -> Chosen:
        if node.is_leaf:
            return lambda _: (read_leaf(node),), "read"
        dtypes = [o.dtype for o in node.outputs]
        return lambda operands: (run or evaluate_numpy)(op, operands, dtypes, bodies), "evaluated"

    return make_plan(graph, known, sizes or {}, choose, check)(known, check=check)


def evaluate_numpy(
    op: Op, operands: Sequence[Array | None], dtypes: Sequence[str], bodies: Sequence[Body]
) -> tuple[Array, ...]:
    """One op on NumPy arrays."""
    return evaluate(op, np, operands, dtypes, bodies)


def read_leaf(node: Node) -> Array:
    """The data of a weight or a constant. Raises NoDataError for a module without a source of weights."""
    if isinstance(node.op, Constant):
        return node.op.value.data
    assert isinstance(node.op, Weight)
    source = node.out.graph.module.source
    if source is None:
        raise NoDataError("graph text holds no weights: run what it was made of, a model or a package")
    return source.read(node.op.tensor)


def _body(plan: Plan, check: bool) -> Body:
    def run(*operands: Array) -> tuple[Array, ...]:
        return plan(dict(zip(plan.graph.inputs, operands, strict=True)), check=check)

    return run


def check_results(node: Node, results: Sequence[Any], sizes: Mapping[str, Dim]) -> None:
    """Raise RunError unless the results of a node are of the types that its graph declares, at these sizes."""
    for o, x in zip(node.outputs, results, strict=True):
        packed = isinstance(x, Packed)
        shape, dtype = tuple(x.shape), x.format if packed else x.dtype
        wanted = o.type.bind(sizes)
        same = shape == wanted.shape and dtype == (wanted.dtype if packed else NUMPY.get(wanted.dtype))
        if not same or (packed and x.layout != wanted.layout):
            raise RunError(f"gives {dtype}{list(shape)}, but is declared {o.type} = {wanted}\n{neighbourhood(node)}")


# ------------------------------------------------------------------------------------------- before any input is there


def static_operands(graph: Graph) -> list[Value]:
    """The values known before run time that are needed at run time."""
    readers = [graph.ret, *(node for node in graph if node.time == "run")]
    return list(dict.fromkeys(v for node in readers for v in node.operands if v.time != "run"))


def static_values(wanted: Iterable[Value], run: RunStatic | None = None) -> Iterator[tuple[Value, Array]]:
    """Each of the wanted values, known before run time, with its array; what they are made of is freed on the way.

    They come one after the other, so that whoever keeps an array elsewhere (on a device) holds it but once here.
    `run(node, operands)` gives a node's results, the same bytes as NumPy, or None where it does not. Raises
    BudgetError, before anything is computed.
    """
    wanted = dict.fromkeys(wanted)
    check_work(wanted)
    nodes = above(wanted)
    readers = {v: 0 for node in nodes for v in node.outputs}
    for node in nodes:
        for v in node.operands:
            readers[v] += 1
    values: dict[Value, Array] = {}
    for node in nodes:
        operands = [None if v is None else values[v] for v in node.inputs]
        for v in node.operands:
            readers[v] -= 1
            if not readers[v]:
                values.pop(v, None)
        made = None if node.is_leaf or run is None else run(node, operands)
        results = dict(zip(node.outputs, made or _run_static(node, operands), strict=True))
        del made
        del operands
        values.update((v, a) for v, a in results.items() if readers[v])
        while results:
            v, array = results.popitem()
            if v in wanted:
                yield v, array
            del array


def _run_static(node: Node, operands: Sequence[Array | None]) -> tuple[Array, ...]:
    if node.is_leaf:
        return (read_leaf(node),)
    bodies = [partial(_run_body, body) for body in node.bodies]
    return evaluate_known(node, node.op, operands, [o.dtype for o in node.outputs], read_leaf, bodies)


def evaluate_known(
    node: Node,
    op: Op,
    operands: Sequence[Array | None],
    dtypes: Sequence[str],
    read: Callable[[Node], Array],
    bodies: Sequence[Body] = (),
) -> tuple[Array, ...]:
    """`op`, which is a node's or a part of it, on arrays that are known before run time; `read` reads a leaf.

    Raises QuantizeError, naming the tensor, for a weight that a format cannot hold.
    """
    try:
        if isinstance(op, Quantize):
            return (op.of_weight(*operands),)
        return evaluate_numpy(op, operands, dtypes, bodies)
    except QuantizeError as e:
        tensors = {leaf.op.tensor: leaf for leaf in above(node.outputs) if isinstance(leaf.op, Weight)}
        name = max(tensors, key=lambda n: _extent(read(tensors[n])), default="of a constant")
        raise QuantizeError(
            f"tensor {name} cannot be quantized to {node.out.dtype}: {e}. Choose another format for it (int8 has f32 "
            f"scales), or leave it as it is: {dotted(node.origin.scope) or '*'}=none as the first rule of the recipe"
        ) from None


def _extent(x: Array) -> float:
    """How large the largest number is; infinite where one is not finite, and nothing for what is packed already."""
    most = float("-inf") if isinstance(x, Packed) or not x.size else float(np.abs(x.astype("f4")).max())
    return most if most == most else float("inf")


def _run_body(body: Graph, *operands: Array) -> tuple[Array, ...]:
    return run_graph(body, dict(zip(body.inputs, operands, strict=True)))
