"""How large a model is in each direction, found out from what its graph computes: no config is asked.

What a graph does not show is left out. Repeated blocks are those that scopes name; heads are those of attention; the
width is that of what one block hands to the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from burnish.ir.graph import Graph, Node, Value
from burnish.ir.ops.attention import Attention, Positions, RelativeBias, Rope
from burnish.ir.ops.experts import ExpertLinear
from burnish.ir.ops.linear import Embedding, Linear
from burnish.ir.origin import Block, block_of
from burnish.ir.run import static_values
from burnish.ir.signature import LOGITS, TOKENS
from burnish.ir.walk import above

__all__ = ["dimensions", "frequencies", "table_of"]

_MOST_COMPUTED = 1 << 16  # elements of what a table of frequencies is made of


def dimensions(graph: Graph) -> dict[str, Any]:
    """Layers by stack, width, attention, feed-forward, experts, vocabulary, scores, positions; what there is of them.

    The graph is a plain one after the passes of `default`.
    """
    nodes = [n for n in graph if n.time == "run"]
    width = _width(nodes)
    found = {
        "layers": _layers(nodes),
        "width": width,
        "attention": _attention(nodes),
        "feed_forward": _feed_forward(nodes, width),
        "experts": _experts(nodes),
        "vocabulary": _vocabulary(graph),
        "scores": _size(v.shape[-1]) if (v := graph.output_for(LOGITS)) is not None else None,
        "rope": _rope(nodes),
        "learned_positions": _learned_positions(graph),
        "relative_bias": _unique({"buckets": n["table"].shape[0]} for n in nodes if isinstance(n.op, RelativeBias)),
    }
    return {k: v for k, v in found.items() if v not in (None, [], {})}


def table_of(graph: Graph) -> Node | None:
    """The look-up of the tokens in their table."""
    tokens = graph.input_for(TOKENS)
    work = tokens.users if tokens is not None else []
    while work:
        if isinstance((node := work.pop(0)).op, Embedding):
            return node
        work += node.out.users if node.op.kind == "memory" and node.out.type.is_integer else []
    return None


def _layers(nodes: Iterable[Node]) -> dict[str, int]:
    blocks = dict.fromkeys(b for n in nodes if (b := block_of(n.origin.scope)) is not None)
    return dict(Counter(b.stack for b in blocks))


def _block(node: Node) -> Block | None:
    return block_of(node.origin.scope)


def _width(nodes: Iterable[Node]) -> int | None:
    """The last axis of what blocks hand on."""
    handed = [
        v.shape[-1]
        for node in nodes
        for v in node.outputs
        if v.type.rank == 3 and v.type.is_float
        if (own := _block(node)) is not None and any(_block(user) != own for user in v.users)
    ]
    return _size(Counter(handed).most_common(1)[0][0]) if handed else None


def _attention(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """Each form that attention has, with the number of nodes that have it."""
    forms: Counter[tuple[Any, ...]] = Counter()
    for node in nodes:
        if isinstance(op := node.op, Attention):
            q, k, v = (node[name].shape for name in ("q", "k", "v"))
            forms[q[2], k[2], q[3], v[3], op.window, op.causal] += 1
    keys = ("heads", "key_heads", "head_size", "value_size", "window", "causal")
    return [{"nodes": count} | dict(zip(keys, form, strict=True)) for form, count in forms.items()]


def _feed_forward(nodes: Iterable[Node], width: int | None) -> list[int]:
    """The inputs of products back to the width, where other products' results make them element by element."""
    widths = [
        node["x"].shape[-1]
        for node in nodes
        if isinstance(node.op, Linear | ExpertLinear) and _block(node) is not None and node.out.shape[-1] == width
        if (made := set(_makers(node["x"]))) and all(n.op.kind == "linear" for n in made)
    ]
    return [size for w in dict.fromkeys(widths) if (size := _size(w)) is not None]


def _makers(value: Value) -> Iterator[Node]:
    """The nodes of run time that a value is made of, element by element or by moving elements."""
    work, seen = [value], {value}
    while work:
        node = work.pop().node
        if node is None or not (node.op.elementwise or node.op.kind == "memory"):
            if node is not None and node.time == "run":
                yield node
            continue
        fresh = [v for v in node.operands if v not in seen and v.time == "run"]
        seen.update(fresh)
        work += fresh


def _experts(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    found = ((n["w"].shape[0], n["chosen"].shape[-1]) for n in nodes if isinstance(n.op, ExpertLinear))
    return _unique({"experts": _size(n), "chosen": _size(k)} for n, k in found)


def _vocabulary(graph: Graph) -> int | None:
    node = table_of(graph)
    return None if node is None else _size(node["w"].shape[0])


def _learned_positions(graph: Graph) -> int | None:
    """The rows of a table that positions are looked up in."""
    for node in graph:
        if isinstance(node.op, Embedding) and any(isinstance(n.op, Positions) for n in above([node["ids"]])):
            return _size(node["w"].shape[0])
    return None


def _rope(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    found = []
    for node in nodes:
        if isinstance(node.op, Rope):
            inv_freq = _small_array(node["inv_freq"])
            rotated = _size(node["inv_freq"].shape[0])
            about = {"rotated": 2 * rotated} if rotated is not None else {}
            found.append(about | ({} if inv_freq is None else frequencies(inv_freq)))
    return _unique(found)


def frequencies(inv_freq: np.ndarray) -> dict[str, Any]:
    """`theta` of frequencies theta ** (-2 j / R), j < R / 2, and what they are divided by, the least and the most.

    Empty where they are no such: the first two say what theta is, which is taken for a number of few digits.
    """
    f = inv_freq.astype(np.float64)
    if f.ndim != 1 or len(f) < 2 or not (np.isfinite(f).all() and (f > 0).all()) or f[1] >= f[0]:
        return {}
    exact = (f[0] / f[1]) ** len(f)
    theta = float(f"{exact:.3g}")
    divided = theta ** (-np.arange(len(f)) / len(f)) / f
    if abs(exact / theta - 1) > 1e-3 or (divided < 0.999).any():
        return {}
    least, most = (float(f"{x:.3g}") for x in (divided.min(), divided.max()))
    return {"theta": theta} | ({} if least == most == 1 else {"divided_by": [least, most]})


def _small_array(value: Value) -> np.ndarray | None:
    """The array of a value that is known before run time and made of little; None for any other."""
    module = value.graph.module
    if value.time == "run" or (module.source is None and value.literal is None):
        return None
    sizes = [o.type.elements for node in above([value]) for o in node.outputs]
    if not all(isinstance(n, int) and n <= _MOST_COMPUTED for n in sizes):
        return None
    return value.literal if value.literal is not None else np.asarray(next(iter(static_values([value])))[1])


def _size(d: object) -> int | None:
    return d if isinstance(d, int) else None


def _unique(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for row in rows:
        if row not in found:
            found.append(row)
    return found
