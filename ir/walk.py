"""Walking graphs: nodes in an order in which each follows its operands."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from burnish.ir.graph import Graph, Node, Value

__all__ = ["above", "every_graph", "post_order"]


def post_order(
    roots: Iterable[Node],
    known: Container[Value] = (),
    within: Callable[[Node], bool] | None = None,
    done: dict[Node, None] | None = None,
) -> dict[Node, None]:
    """The roots and all that they depend on, each after its operands and shortly before its first reader.

    What makes `known` values is left out, and what is not `within`; nodes that are `done` already come first. Raises
    ValueError, naming the nodes, where the graph has a cycle.
    """
    done = {} if done is None else done
    open_: dict[Node, None] = {}
    for root in roots:
        if root in done:
            continue
        stack = [root]
        while stack:
            node = stack[-1]
            if node in done:
                stack.pop()
                continue
            todo = [
                n
                for v in reversed(node.inputs)
                if v is not None
                and (n := v.node) is not None
                and n not in done
                and v not in known
                and (within is None or within(n))
            ]
            if not todo:
                stack.pop()
                open_.pop(node, None)
                done[node] = None
            elif node in open_:
                ring = [n.op.name for n in dict.fromkeys(stack[stack.index(node) :]) if n in open_]
                where = node.graph.name if node.graph is not None else "?"
                raise ValueError(f"graph {where} has a cycle through {', '.join(ring[-8:])}")
            else:
                open_[node] = None
                stack += todo
    return done


def above(values: Iterable[Value], known: Container[Value] = ()) -> list[Node]:
    """The nodes that make these values out of known ones, each after its operands and shortly before its reader."""
    return list(post_order((v.node for v in values if v.node is not None and v not in known), known))


def every_graph(graphs: Iterable[Graph]) -> Iterator[Graph]:
    """The graphs and all the bodies in them, outer ones first."""
    work = list(graphs)
    for graph in work:
        yield graph
        work += [b for node in graph for b in node.bodies]
