"""How large a model is in each direction, found out from what its graph computes: no config is asked.

What a graph does not show is left out. Repeated blocks are those that scopes name; heads are those of attention; the
width is that of what one block hands to the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from burnish.ir.dims import symbols_of
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.ops.attention import Attention, Positions, RelativeBias, Rope
from burnish.ir.ops.experts import ExpertLinear
from burnish.ir.ops.linear import Embedding, Linear
from burnish.ir.origin import Block, block_of
from burnish.ir.run import static_values
from burnish.ir.signature import EMBEDDING, LOGITS, TOKENS
from burnish.ir.walk import above

__all__ = ["dimensions", "frequencies"]

_MOST_COMPUTED = 1 << 16  # elements of what a table of frequencies is made of


def dimensions(graph: Graph) -> dict[str, Any]:
    """Layers by stack, width, attention, feed-forward, experts, vocabulary, positions, results; what there is of them.

    The graph is a plain one after the passes of `default`.
    """
    nodes = [n for n in graph.order() if n.time == "run"]
    tokens = graph.input_for(TOKENS)
    positions = [n.out for n in nodes if isinstance(n.op, Positions)]
    width = _width(nodes)
    found = {
        "layers": _layers(nodes),
        "width": width,
        "attention": _attention(nodes),
        "feed_forward": _feed_forward(nodes, width),
        "experts": _experts(nodes),
        "vocabulary": _rows(_tables([tokens] if tokens is not None else [])),
        "scores": _last(graph.output_for(LOGITS)),
        "embedding": _last(graph.output_for(EMBEDDING)),
        "rope": _rope(nodes),
        "learned_positions": _rows(_tables(positions)),
        "relative_bias": _unique({"buckets": n["table"].shape[0]} for n in nodes if isinstance(n.op, RelativeBias)),
    }
    return {k: v for k, v in found.items() if v not in (None, [], {})}


def _last(value: Value | None) -> int | None:
    """The length of the last axis, where there is one and it is known."""
    return _size(value.shape[-1]) if value is not None and value.shape else None


def _tables(ids: Iterable[Value]) -> Iterator[Node]:
    """The look-ups in tables of these ids, or of what other integers are made of them."""
    seen = dict.fromkeys(ids)
    work = list(seen)
    for value in work:  # which grows
        for node in value.users:
            if isinstance(node.op, Embedding):
                yield node
                continue
            fresh = [v for v in node.outputs if v.type.is_integer and v not in seen]
            seen.update(dict.fromkeys(fresh))
            work += fresh


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
    """Each form that attention has, with the number of nodes that have it; `of_others`: to an encoder's."""
    forms: Counter[tuple[Any, ...]] = Counter()
    for node in nodes:
        if isinstance(op := node.op, Attention):
            q, k, v = (node[name].shape for name in ("q", "k", "v"))
            of_others = not set(symbols_of(q[1])) & set(symbols_of(k[1])) and q[1] != k[1]
            forms[q[2], k[2], q[3], v[3], op.window, op.causal, of_others] += 1
    keys = ("heads", "key_heads", "head_size", "value_size", "window", "causal", "of_others")
    return [{"nodes": count} | dict(zip(keys, form, strict=True)) for form, count in forms.items()]


def _feed_forward(nodes: Sequence[Node], width: int | None) -> list[int]:
    """The inputs of products back to the width, where other products' results make them element by element."""
    made = _of_products(nodes)
    widths = [
        node["x"].shape[-1]
        for node in nodes
        if isinstance(node.op, Linear | ExpertLinear) and _block(node) is not None and node.out.shape[-1] == width
        if node["x"] in made
    ]
    return [size for w in dict.fromkeys(widths) if (size := _size(w)) is not None]


def _of_products(nodes: Iterable[Node]) -> set[Value]:
    """The values that are made of products' results alone, element by element or by moving elements."""
    good, other = set[Value](), set[Value]()
    for node in nodes:
        read = [v for v in node.operands if v in good or v in other]
        if node.op.kind == "linear":
            good.update(node.outputs)
        elif not (node.op.elementwise or node.op.kind == "memory") or any(v in other for v in read):
            other.update(node.outputs)
        elif read:
            good.update(node.outputs)
    return good


def _experts(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    found = ((n["w"].shape[0], n["chosen"].shape[-1]) for n in nodes if isinstance(n.op, ExpertLinear))
    return _unique({"experts": _size(n), "chosen": _size(k)} for n, k in found)


def _rows(tables: Iterable[Node]) -> int | None:
    """Of the first table."""
    return next((_size(node["w"].shape[0]) for node in tables), None)


def _rope(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    found = []
    for inv_freq in dict.fromkeys(node["inv_freq"] for node in nodes if isinstance(node.op, Rope)):
        rotated, array = _size(inv_freq.shape[-1]), _small_array(inv_freq)
        about = {"rotated": 2 * rotated} if rotated is not None else {}
        found.append(about | ({} if array is None else frequencies(array)))
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
