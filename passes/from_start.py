"""from-start: a model that is told what came before, as one that reads a text from its start."""

from __future__ import annotations

import math
from functools import partial

from burnish.ir.builder import Ops
from burnish.ir.dims import Dim, bind, symbols_of
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.guards import AllTrue, Guard
from burnish.ir.module import Module, copy_graph
from burnish.ir.op import Array
from burnish.ir.ops.elementwise import Add, Cast
from burnish.ir.ops.reduction import CumulativeSum
from burnish.ir.ops.shape import Concat, Slice, Transpose
from burnish.ir.origin import Origin
from burnish.ir.run import evaluate_numpy
from burnish.ir.signature import LOGITS, MASK, PAST, TOKENS, Earlier
from burnish.passes.engine import Context, Pass, PassError, Rule
from burnish.passes.recover_mask import RecoverMask
from burnish.passes.recover_positions import RecoverPositions

_SMALL = 16  # elements of what is computed here: numbers that count what came before


class NothingBefore(Rule):
    """f(tokens, mask, what came before) -> f(tokens): every token is real, none came before"""


class FromStart(Pass):
    """f(tokens, mask, what came before) -> f(tokens): every token is real, none came before

    The plain forward of a graph that a caller keeps the past of, as exporters write it: `insert-state` makes the states
    of that. What the graph returns for its caller to keep is left out. A text that is padded is padded on the right, so
    that no token sees one that is not real.
    """

    rules = (NothingBefore, *RecoverMask.rules, *RecoverPositions.rules)

    def run(self, module: Module, ctx: Context) -> None:
        graph = module.main
        if graph is None or graph.output_for(LOGITS) is None or graph.input_for(PAST) is not None:
            return
        told = graph.input_for(MASK) is not None or any(isinstance(v.role, Earlier) for v in graph.inputs)
        if told and ctx.restructure(NothingBefore(), graph, partial(_from_start, graph=graph)):
            for hidden in (RecoverMask(), RecoverPositions()):  # behind padding, and what came before
                hidden.run(module, ctx)


def _from_start(op: Ops, graph: Graph) -> None:
    earlier = {v: v.role for v in graph.inputs if isinstance(v.role, Earlier)}
    sizes: dict[str, Dim] = {s: 0 for v, role in earlier.items() for s in symbols_of(v.shape[role.axis])}
    left = [v for v in graph.inputs if v not in earlier and v.role != MASK and sizes.keys() & set(v.type.symbols)]
    if left:
        raise PassError(f"input {left[0].name} is as long as what came before, and is not given back with the tokens")
    kept = {
        k: v for k, v in graph.outputs.items() if not any(r.goes_on(e.type, v.type) for e, r in earlier.items())
    }
    graph.set_outputs(kept)
    for guard in graph.module.guards:
        _bound(op, guard, sizes)
    mask = graph.input_for(MASK)
    empty, ones = set[Value](), set[Value]()
    for v in [*earlier, *([mask] if mask is not None else [])]:
        number = op.constant(1 if v is mask else 0, v.dtype)
        made = op.broadcast_to(number, shape=v.type.bind(sizes).shape)
        (ones if v is mask else empty).add(made)
        graph.replace(v, made)
        graph.remove_input(v)
    for node in graph.order():
        if not node.is_leaf and node.graph is not None:
            with op.at(Origin.union([node.origin], NothingBefore.__name__)):
                _bind(op, node, sizes, empty, ones)


def _bind(op: Ops, node: Node, sizes: dict[str, Dim], empty: set[Value], ones: set[Value]) -> None:
    """The node where nothing came before; what is empty, or counts it and is added, is gone."""
    graph = op.graph
    if isinstance(node.op, Cast) and node["x"] in ones:
        made = op.again(node)
        ones.add(made)
        graph.replace(node.out, made)
    elif isinstance(node.op, CumulativeSum) and node["x"] in ones and node.op.axis == 1:  # how many, with itself
        tokens = graph.input_for(TOKENS)
        assert tokens is not None
        graph.replace(node.out, op.add(op.cast(op.positions(tokens), to=node.out.dtype), 1))
    elif isinstance(node.op, Concat) and any(v in empty for v in node.operands):
        left = [v for v in node.operands if v not in empty] or list(empty.intersection(node.operands))
        graph.replace(node.out, left[0] if len(left) == 1 else op.concat(*left, axis=node.op.axis))
    elif isinstance(node.op, Add) and (other := _added_to_nothing(node)) is not None:
        graph.replace(node.out, other)
    elif isinstance(node.op, Transpose) and (before := _transposed_back(node)) is not None:
        graph.replace(node.out, before)
    elif isinstance(node.op, Slice) and _takes_all(node, sizes):
        graph.replace(node.out, node["x"])
    elif (number := _number(node, sizes)) is not None:
        graph.replace(node.out, op.constant(number))
    elif not sizes.keys().isdisjoint({*node.op.symbols, *(s for o in node.outputs for s in o.type.symbols)}):
        made = op.emit(node.op.bind(sizes), node.inputs, [copy_graph(b, graph.module, sizes) for b in node.bodies])
        for old, new in zip(node.outputs, made if len(node.outputs) > 1 else [made], strict=True):
            graph.replace(old, new)


def _added_to_nothing(node: Node) -> Value | None:
    """The other operand of an addition of 0."""
    for x, zero in ((node["a"], node["b"]), (node["b"], node["a"])):
        if zero.literal is not None and not zero.literal.any() and x.type.dtype == node.out.dtype:
            return x if zero.type.elements == 1 and zero.type.rank <= x.type.rank else None
    return None


def _takes_all(node: Node, sizes: dict[str, Dim]) -> bool:
    """Whether a slice from behind what came before is one of everything."""
    assert isinstance(node.op, Slice)
    whole = node["x"].type.bind(sizes).shape[node.op.axis]
    return bind(node.op.start, sizes) == 0 and bind(node.op.stop, sizes) == whole


def _transposed_back(node: Node) -> Value | None:
    """What was transposed for the sake of what came before, and is again."""
    inner = node["x"].node
    if inner is None or not isinstance(inner.op, Transpose) or not isinstance(node.op, Transpose):
        return None
    back = [inner.op.perm[i] for i in node.op.perm] == list(range(node.out.type.rank))
    return inner["x"] if back else None


def _number(node: Node, sizes: dict[str, Dim]) -> Array | None:
    """A count of what came before, where nothing did; None where a node is more than that."""
    op, types = node.op.bind(sizes), [o.type.bind(sizes) for o in node.outputs]
    operands = [None if v is None else v.literal for v in node.inputs]
    known = not any(v is not None and x is None for v, x in zip(node.inputs, operands, strict=True))
    plain = not op.symbols and not node.bodies and len(types) == 1 and types[0].is_integer and not types[0].symbols
    if not known or not plain or math.prod(types[0].sizes) > _SMALL:
        return None
    return evaluate_numpy(op, operands, [types[0].dtype], ())[0]


def _bound(op: Ops, guard: Guard, sizes: dict[str, Dim]) -> None:
    """What was assumed of the sizes holds where nothing came before."""
    if isinstance(guard, AllTrue):
        if not sizes.keys().isdisjoint(guard.graph.symbols):
            op.assume(AllTrue(guard.reason, copy_graph(guard.graph, op.graph.module, sizes)))
    elif not sizes.keys().isdisjoint({*symbols_of(guard.a), *symbols_of(guard.b)}):
        op.assume(type(guard)(bind(guard.a, sizes), bind(guard.b, sizes)))
