"""recover-mask: masks that depend on shapes alone, recognised by what they are rather than by how they are made."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from burnish.ir.builder import Ops
from burnish.ir.dims import bind
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.guards import AllTrue, Comparison
from burnish.ir.leaves import Constant
from burnish.ir.ops.attention import Attention
from burnish.ir.run import run_graph
from burnish.ir.walk import above
from burnish.passes.engine import Match, RewritePass, Rule

_SIZES = (1, 2, 3, 5, 8)
_LARGEST = 1024  # constants of a mask's graph up to this are tried as sizes: a window shows beyond its width
_MOST_TRIED = 1 << 24  # elements of what a mask is computed from, at one of these sizes
_HIDDEN = -1e4  # what is added to a score so that its key does not count; e ** this is 0
Shape = tuple[bool, int]  # causal, window


class MaskOfShapes(Rule):
    """attention(q, k, v, bias), bias of shapes alone -> attention(q, k, v; causal, window), and a guard that says so

    The bias is evaluated at a few sizes of its symbols. If at all of them it hides what a causal mask hides (or one
    with a window, or nothing), that is concluded, and a guard checks it at every size that the symbols are bound to.
    Any other mask stays data.
    """

    exactness = "rounding"
    at = (Attention,)
    example = """module {
      graph forward(%q: f32[2, S, 1, 4]) {
        %0: i32[S] = iota(size=S) <- "iota"
        %1: i32[S, 1] = unsqueeze(%0, axes=[1]) <- "rows"
        %2: bool[S, S] = less_or_equal(%0, %1) <- "mask"
        %3: f32[2, S, 1, 4] = attention(%q, %q, %q, _, _, %2, scale=0.5) <- "attention"
        return y=%3
      }
    }"""

    def __init__(self) -> None:
        self.known: dict[Value, tuple[Shape, list[AllTrue]] | str] = {}  # one mask serves every block

    def find(self, node: Node) -> Iterator[Match]:
        bias = node.get("bias")
        if isinstance(node.op, Attention) and not node.op.causal and bias is not None and _of_shapes(bias):
            if bias not in self.known:
                self.known[bias] = _conclude(bias, node)
            yield Match({"found": self.known[bias]}, [node], list(node.outputs), [])

    def where(self, found: tuple[Shape, list[AllTrue]] | str) -> str | None:
        return found if isinstance(found, str) else None

    def build(self, op: Ops, found: tuple[Shape, list[AllTrue]], out: Value) -> Value:
        (causal, window), guards = found
        for guard in guards:
            op.assume(guard)
        assert out.node is not None and isinstance(out.op, Attention)
        return op.again(out.node, out.op.changed(causal=causal, window=window), bias=None)


class RecoverMask(RewritePass):
    """Masks that depend on shapes alone become what they are: causal, windowed, or without effect."""

    rules = (MaskOfShapes,)


def _of_shapes(value: Value) -> bool:
    """Whether it depends on sizes and small constants alone: on no input and no weight."""
    if value.node is None:
        return False
    for node in above([value]):
        data = not node.inputs and node.op.name not in ("iota", "constant")
        if data or node.bodies or any(v.node is None for v in node.operands):
            return False
    return True


def _conclude(bias: Value, node: Node) -> tuple[Shape, list[AllTrue]] | str:
    """What the bias of an attention is at every size that was tried, and the guard for the others; or why nothing."""
    q, k = node["q"], node["k"]
    alone = _alone(bias)
    masks: list[np.ndarray] = []
    hidden = 0.0
    broken = [g.broken for g in bias.graph.module.guards if isinstance(g, Comparison)]
    for sizes in _bindings(bias):
        if any(b(sizes) for b in broken):
            continue
        if any(math.prod(o.type.bind(sizes).sizes) > _MOST_TRIED for n in alone for o in n.outputs):
            return "it is too large to be tried: it stays data"
        (data,) = run_graph(alone, {}, sizes)
        visible = data if data.dtype == bool else data == 0
        if data.dtype != bool and not visible.all():
            values = np.unique(data[~visible])
            if len(values) != 1 or not values[0] <= _HIDDEN:
                return f"it adds {', '.join(map(str, values[:3]))} to scores: it stays data"
            hidden = float(values[0])
        rows, keys = bind(q.shape[1], sizes), bind(k.shape[1], sizes)
        if not isinstance(rows, int) or not isinstance(keys, int):
            return f"it does not depend on the lengths of {q.type} and {k.type}: it stays data"
        masks.append(np.broadcast_to(visible, (*visible.shape[:-2], rows, keys)).reshape(-1, rows, keys))
    windows = sorted({int(n) for mask in masks for n in mask[:, -1].sum(axis=-1)})  # as many keys as a last row sees
    candidates: list[Shape] = [(False, 0), (True, 0), *((True, w) for w in windows if w)]
    shape = next((c for c in candidates if all((m == _visible(c, *m.shape[1:])).all() for m in masks)), None)
    if shape is None:
        return "it is neither causal nor without effect: it stays data"
    symbols = {s for n in above([bias]) for o in n.outputs for s in o.type.symbols}
    return shape, [_guard(bias, shape, hidden, q, k)] if symbols else []


def _visible(shape: Shape, rows: int, keys: int) -> np.ndarray:
    """What attention with these attributes shows: bool[rows, keys]."""
    causal, window = shape
    row, key = np.arange(rows)[:, None], np.arange(keys)
    return (key <= row) & ((window == 0) | (key > row - window)) if causal else np.ones((rows, keys), bool)


def _bindings(bias: Value) -> Iterator[dict[str, int]]:
    """Sizes to try: small ones, in two ways that tell symbols apart, and those just beyond the mask's constants."""
    nodes = above([bias])
    mentioned = ((*sorted(n.op.symbols), *(s for o in n.outputs for s in o.type.symbols)) for n in nodes)
    symbols = list(dict.fromkeys(s for symbols in mentioned for s in symbols))
    if not symbols:
        yield {}
        return
    lengths = {s for d in bias.shape[-2:] for s in bias.type.with_shape((d,)).symbols}
    for n in _SIZES:
        yield dict.fromkeys(symbols, n)
        yield {s: n if s in lengths else n % 3 + 1 for s in symbols}
    numbers = {int(x) for n in nodes if isinstance(n.op, Constant) for x in _integers(n.out)}
    for n in sorted({c + 1 for c in numbers if max(_SIZES) <= c <= _LARGEST}):
        yield {s: n if s in lengths else 1 for s in symbols}


def _integers(value: Value) -> list[int]:
    data = value.literal
    return [] if data is None or data.size > 8 or data.dtype.kind not in "iu" else data.ravel().tolist()


def _alone(value: Value) -> Graph:
    """What makes a value of shapes, as a graph of its own."""
    graph = value.graph.module.body("guard")
    copies: dict[Value, Value] = {}
    for node in above([value]):
        operands = [None if v is None else copies[v] for v in node.inputs]
        copy = graph.emit(node.op, operands, [o.type for o in node.outputs], node.origin)
        copies.update(zip(node.outputs, copy.outputs, strict=True))
    graph.set_outputs({"alone": copies[value]})
    return graph


def _guard(bias: Value, shape: Shape, hidden: float, q: Value, k: Value) -> AllTrue:
    """That the bias is what was concluded, as a graph of its own."""
    graph = _alone(bias)
    op, mask = graph.ops, graph.outputs["alone"]
    causal, window = shape
    visible = op.constant(True, "bool")
    if causal:
        row, key = op.unsqueeze(op.iota(size=q.shape[1]), axes=(1,)), op.iota(size=k.shape[1])
        visible = op.less_or_equal(key, row)
        if window:
            visible = op.logical_and(visible, op.less(op.sub(row, window), key))
    if mask.type.is_float:
        visible = op.where(visible, op.constant(0.0, mask.dtype), op.constant(hidden, mask.dtype))
    graph.set_outputs({"holds": op.equal(mask, visible)})
    graph.normalize()
    what = f"causal within a window of {window}" if window else "causal" if causal else "without effect"
    source = bias.node.origin.sources[0] if bias.node is not None and bias.node.origin.sources else "it"
    return AllTrue(f"that the mask {source} is {what}", graph)
