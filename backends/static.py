"""Running a graph node by node, and what weights and constants alone determine, computed once in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from burnish.ir.dims import Dim
from burnish.ir.evaluate import evaluate
from burnish.ir.graph import Constant, Graph, Node, Value, Weight
from burnish.ir.op import Array, Op

__all__ = ["Run", "evaluate_numpy", "run_graph", "static_operands", "static_values"]

Body = Callable[..., tuple[Array, ...]]
Run = Callable[[Op, Sequence[Array | None], Sequence[str], Sequence[Body]], tuple[Array, ...]]


def evaluate_numpy(
    op: Op, operands: Sequence[Array | None], dtypes: Sequence[str], bodies: Sequence[Body]
) -> tuple[Array, ...]:
    """One op on NumPy arrays."""
    return evaluate(op, np, operands, dtypes, bodies)


def run_graph(
    graph: Graph, known: Mapping[Value, Array], sizes: Mapping[str, Dim] | None = None, run: Run = evaluate_numpy
) -> tuple[Array, ...]:
    """The outputs of a graph; `known` holds its inputs, and whatever else need not be computed."""
    values = dict(known)
    for node in _needed(graph.outputs.values(), known):
        operands = [None if v is None else values[v] for v in node.inputs]
        values.update(zip(node.outputs, _run_node(node, operands, sizes or {}, run), strict=True))
    return tuple(values[v] for v in graph.outputs.values())


def _run_node(node: Node, operands: Sequence[Array | None], sizes: Mapping[str, Dim], run: Run) -> tuple[Array, ...]:
    if isinstance(node.op, Weight):
        source = node.out.graph.module.source
        assert source is not None, "the module has no source of weights"
        return (source.read(node.op.tensor),)
    if isinstance(node.op, Constant):
        return (node.op.value.data,)
    bodies = [partial(_run_body, body, sizes, run) for body in node.bodies]
    return run(node.op.bind(sizes), operands, [o.dtype for o in node.outputs], bodies)


def _run_body(body: Graph, sizes: Mapping[str, Dim], run: Run, *operands: Array) -> tuple[Array, ...]:
    return run_graph(body, dict(zip(body.inputs, operands, strict=True)), sizes, run)


def static_operands(graph: Graph) -> list[Value]:
    """The values known before run time that are needed at run time."""
    readers = [graph.ret, *(node for node in graph if node.time == "run")]
    return list(dict.fromkeys(v for node in readers for v in node.operands if v.time != "run"))


def static_values(wanted: Iterable[Value]) -> Iterator[tuple[Value, Array]]:
    """Each of the wanted values, known before run time, with its array; what they are made of is freed on the way.

    They come one after the other, so that whoever keeps an array elsewhere (on a device) holds it but once here.
    """
    wanted = dict.fromkeys(wanted)
    nodes = _needed(wanted, {})
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
        results = dict(zip(node.outputs, _run_node(node, operands, {}, evaluate_numpy), strict=True))
        del operands
        values.update((v, a) for v, a in results.items() if readers[v])
        while results:
            v, array = results.popitem()
            if v in wanted:
                yield v, array
            del array


def _needed(wanted: Iterable[Value], known: Container[Value]) -> list[Node]:
    """The nodes that make these values out of known ones, each after its operands and shortly before its reader."""
    done: dict[Node, None] = {}
    stack = [v.node for v in reversed(list(wanted)) if v not in known]
    while stack:
        node = stack[-1]
        assert node is not None, "an input of the graph has no array"
        todo = [v.node for v in reversed(node.operands) if v not in known and v.node not in done]
        if todo and node not in done:
            stack += todo
        else:
            done[node] = None
            stack.pop()
    return list(done)
