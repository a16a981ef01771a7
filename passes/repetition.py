"""Repeated blocks, found from a graph alone.

What every path from an early node to the first output passes through are the cuts: a residual stream crosses from
block to block in just one place. What lies between two cuts is a segment; a run of equal segments, or of equal groups
of them, is a run of blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.ir.graph import Graph, Node, Value
from burnish.ir.leaves import Constant
from burnish.ir.literal import Literal
from burnish.ir.structure import structure
from burnish.ir.walk import post_order

__all__ = ["Block", "Entered", "External", "Inner", "Reference", "find_blocks"]


@dataclass(frozen=True)
class Inner:
    """An operand made in the block: result `index` of its node number `node`."""

    node: int
    index: int


@dataclass(frozen=True)
class Entered:
    """An operand that the block before hands on: result `index` of that block's last node."""

    index: int


@dataclass(frozen=True)
class External:
    """An operand from outside: number `at` of the block's externals."""

    at: int


Reference = Inner | Entered | External | Literal | None


@dataclass(frozen=True)
class Block:
    """Some nodes in an order that equal blocks agree on, their operands, and the node before and at the end."""

    nodes: list[Node]
    operands: list[tuple[Reference, ...]]
    external: list[Value]
    before: Node
    last: Node

    @property
    def signature(self) -> tuple[Any, ...]:
        """What makes two blocks equal: ops, types, and how operands go; of those from outside, type and time."""
        rows = []
        for node, operands in zip(self.nodes, self.operands, strict=True):
            bodies = repr([structure(b, names=False, provenance=False) for b in node.bodies])
            rows.append((node.op, operands, tuple(o.type for o in node.outputs), bodies))
        return (*rows, *((v.type, v.time) for v in self.external))

    def followed_by(self, other: Block) -> Block:
        """This block and the one after it as one."""
        nodes, externals, last = len(self.nodes), len(self.external), self.nodes.index(self.last)

        def moved(r: Reference) -> Reference:
            match r:
                case Inner(node, index):
                    return Inner(node + nodes, index)
                case Entered(index):
                    return Inner(last, index)
                case External(at):
                    return External(at + externals)
            return r

        operands = [tuple(map(moved, row)) for row in other.operands]
        return Block(
            [*self.nodes, *other.nodes],
            [*self.operands, *operands],
            [*self.external, *other.external],
            self.before,
            other.last,
        )


def find_blocks(graph: Graph, without: Collection[Node] = ()) -> list[Block]:
    """The run of equal blocks that covers most nodes, or [].

    A block holds a product, for a loop costs something, and none of the nodes `without`.
    """
    best: tuple[int, list[Block]] = (0, [])
    for segments in _chains(graph):
        numbers: dict[tuple[Any, ...], int] = {}
        kinds = [numbers.setdefault(s.signature, len(numbers)) for s in segments]
        for first, period, count in _runs(kinds):
            covered = segments[first : first + period * count]
            nodes = [n for s in covered for n in s.nodes]
            products = any(n.op.kind in ("linear", "matmul") for n in covered[0].nodes + covered[period - 1].nodes)
            if len(nodes) > best[0] and products and _hands_on(covered) and not any(n in without for n in nodes):
                best = len(nodes), [_joined(covered[i : i + period]) for i in range(0, len(covered), period)]
    return best[1]


def _hands_on(segments: Sequence[Block]) -> bool:
    """Whether what comes in has the types of what goes out."""
    before, last = segments[0].before, segments[-1].last
    return [o.type for o in before.outputs] == [o.type for o in last.outputs]


def _joined(segments: Sequence[Block]) -> Block:
    block = segments[0]
    for other in segments[1:]:
        block = block.followed_by(other)
    return block


def _runs(kinds: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(first, period, count) of every stretch of at least two periods that is as long as it can be."""
    for period in range(1, len(kinds) // 2 + 1):
        first = 0
        while first + 2 * period <= len(kinds):
            end = first
            while end + period < len(kinds) and kinds[end] == kinds[end + period]:
                end += 1
            count = (end - first) // period + 1
            if count > 1:
                yield first, period, count
            # Where what comes in has another type than what goes out, a run may begin a block later.
            if count > 2:
                yield first + period, period, count - 1
            first = max(end, first) + 1


# -------------------------------------------------------------------------------------------------------- segments


def _chains(graph: Graph) -> Iterator[list[Block]]:
    """The segments along each way through the graph, the longest first; a part that two ways share comes once."""
    end = next((v.node for v in graph.outputs.values() if v.node is not None and v.node.time == "run"), None)
    if end is None:
        return
    next_cut = _post_dominators(graph, end)
    children: dict[Node, list[Node]] = {}
    for node, cut in next_cut.items():
        children.setdefault(cut, []).append(node)
    depth = {end: 0}
    for node in _below(end, children):
        depth[node] = 0 if node is end else depth[next_cut[node]] + 1
    place = {node: i for i, node in enumerate(graph.order())}
    sinks = [n for n in graph.order() if n.time == "run" and n not in depth]
    entries = [n for n in depth if not any(v.time == "run" and v.node is not None for v in n.operands)]
    seen: set[Node] = set()
    for entry in sorted(entries, key=lambda n: (-depth[n], place[n])):
        cuts = [entry]
        while cuts[-1] is not end and cuts[-1] not in seen:
            cuts.append(next_cut[cuts[-1]])
        seen.update(cuts)
        if len(cuts) > 2:
            yield _segments(cuts, children, place, sinks)
            if sinks:  # where not every block has such, they are left outside
                yield _segments(cuts, children, place, ())


def _post_dominators(graph: Graph, end: Node) -> dict[Node, Node]:
    """For each node on a way to `end`, the next one that all its ways there pass through."""
    import networkx

    backwards = networkx.DiGraph()
    backwards.add_node(end)
    for node in graph:
        if node.time == "run":
            backwards.add_edges_from((node, v.node) for v in node.operands if v.node is not None and v.time == "run")
    return {n: d for n, d in networkx.immediate_dominators(backwards, end).items() if n is not end and d is not None}


def _below(root: Node, children: dict[Node, list[Node]], without: Node | None = None) -> list[Node]:
    """A node and all below it in the tree, but for what is below `without`; parents first."""
    found = [root]
    for node in found:
        found += [n for n in children.get(node, ()) if n is not without]
    return found


def _segments(
    cuts: Sequence[Node], children: dict[Node, list[Node]], place: dict[Node, int], sinks: Sequence[Node]
) -> list[Block]:
    """What lies between each cut and the next."""
    inside: list[set[Node]] = []
    number: dict[Node, int] = {}
    for i in range(1, len(cuts)):
        inside.append(_between(cuts[i - 1], cuts[i], _below(cuts[i], children, without=cuts[i - 1]), place))
        number.update(dict.fromkeys(inside[-1], i - 1))
    for node in sinks:  # a value that only leaves the graph belongs to the last segment that it is made from
        at = max((number[v.node] for v in node.operands if v.node in number), default=None)
        if at is not None:
            number[node] = at
            inside[at].add(node)
    return [_block(cuts[i], cuts[i + 1], nodes, place) for i, nodes in enumerate(inside)]


def _between(before: Node, last: Node, below: Sequence[Node], place: dict[Node, int]) -> set[Node]:
    """The nodes that depend on `before`, and those that nothing else needs."""
    below_ = set(below)
    inside = {last}
    work = [before]
    while work:
        found = [u for o in work.pop().outputs for u in o.users if u in below_ and u not in inside]
        inside.update(found)
        work += found
    for node in sorted(below, key=place.__getitem__, reverse=True):
        if all(u in inside for o in node.outputs for u in o.users):
            inside.add(node)
    return inside


def _block(before: Node, last: Node, inside: set[Node], place: dict[Node, int]) -> Block:
    """Numbered as `last` asks for operands; what it does not depend on follows."""
    nodes = list(post_order([last, *sorted(inside, key=place.__getitem__)], within=inside.__contains__))
    number = {node: i for i, node in enumerate(nodes)}
    external: dict[Value, int] = {}

    def reference(v: Value | None) -> Reference:
        if v is None:
            return None
        if v.node in number:
            return Inner(number[v.node], v.index)
        if v.node is before:
            return Entered(v.index)
        if isinstance(v.op, Constant) and v.op.value.inline is not None:
            return v.op.value
        return External(external.setdefault(v, len(external)))

    operands = [tuple(reference(v) for v in n.inputs) for n in nodes]
    return Block(nodes, operands, list(external), before, last)
