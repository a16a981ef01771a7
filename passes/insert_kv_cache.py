"""insert-kv-cache: a plain forward made stateful, the only way to a cache."""

from __future__ import annotations

from functools import partial

from burnish.ir.dims import Sym
from burnish.ir.graph import Graph, Module, Node, Ops, Origin, Value
from burnish.ir.op import Op
from burnish.ir.ops.attention import Attention, Positions, RelativeBias
from burnish.ir.types import Type
from burnish.passes.engine import Context, Pass

CAPACITY = Sym("C")  # rows of a cache


class InsertKvCache(Pass):
    """attention(q, k, v) causal -> attention(q, cache_update(k_cache, k, past), cache_update(v_cache, v, past), past)

    Positions count from `past[B]`. Keys and values that do not depend on the tokens (cross-attention) are computed
    once: what makes them moves to the graph `encoder`, whose results come in as inputs. New inputs: `past`,
    `k0`, `v0`, … (returned under the same names), and `cross_k0`, `cross_v0`, ….
    """

    def run(self, module: Module, ctx: Context) -> None:
        for graph in module.graphs.values():
            if any(_is_causal(n) for n in graph):
                ctx.restructure("InsertKvCache", graph, partial(_insert, graph=graph))
        encoder, decoder = module.graphs.get("encoder"), module.graphs.get("decoder")
        if encoder is not None and decoder is not None and _is_stateful(decoder):
            ctx.restructure("CrossAttentionOnce", decoder, lambda op: _compute_once(encoder, decoder))


def _is_causal(node: Node) -> bool:
    return isinstance(node.op, Attention) and node.op.causal and (len(node.inputs) < 4 or node.inputs[3] is None)


def _is_stateful(graph: Graph) -> bool:
    return graph.find_input("past") is not None


def _insert(op: Ops, graph: Graph) -> None:
    ids = graph.inputs[0]
    past = graph.input("past", Type("i32", ids.shape[:1]))
    outputs = dict(graph.outputs)
    caches = 0
    for node in graph.order():
        if isinstance(node.op, Positions):
            _replace(graph, op, node, [node.inputs[0], past])
        elif isinstance(node.op, RelativeBias) and not node.op.bidirectional:
            bias = type(node.op)(node.op.query, CAPACITY, node.op.bidirectional, node.op.max_distance)
            _replace(graph, op, node, [node.inputs[0], past], bias)
        elif _is_causal(node):
            q, k, v = node.operands[:3]
            stored = []
            for letter, new in (("k", k), ("v", v)):
                shape = (new.shape[0], CAPACITY, *new.shape[2:])
                cache = graph.input(f"{letter}{caches}", new.type.with_shape(shape))
                with op.at(Origin.union([node.origin], "InsertKvCache")):
                    updated = op.cache_update(cache, new, past)
                outputs[cache.name] = updated
                stored.append(updated)
            _replace(graph, op, node, [q, *stored, past, *node.inputs[4:]])
            caches += 1
    # Replaced values may have left the graph themselves: the outputs are those of now.
    graph.set_outputs({**graph.outputs, **{k: v for k, v in outputs.items() if k not in graph.outputs}})


def _replace(graph: Graph, op: Ops, node: Node, inputs: list[Value | None], new_op: Op | None = None) -> None:
    """The node again with other operands; its own origin, by this pass. Its result may be of another shape."""
    with op.at(Origin.union([node.origin], "InsertKvCache")):
        made = op.emit(new_op or node.op, inputs)
    graph.replace(node.out, made)


def _compute_once(encoder: Graph, decoder: Graph) -> None:
    """Move what depends on the encoder's results alone, and is attended to, into the encoder."""
    given = {v: o for v in decoder.inputs if (o := encoder.outputs.get(v.name.removeprefix("encoder_"))) is not None}
    moved = dict(given)
    outputs = dict(encoder.outputs)
    crossing = [n for n in decoder.order() if isinstance(n.op, Attention) and not n.op.causal]
    for i, node in enumerate(crossing):
        for position, letter in ((1, "k"), (2, "v")):
            value = node.inputs[position]
            assert value is not None
            name = f"cross_{letter}{i}"
            outputs[name] = _copy(encoder, value, moved)
            node.set_input(position, decoder.input(name, value.type))
    encoder.set_outputs(outputs)
    decoder.erase_dead(list(decoder))
    for value in given:
        if not value.uses:
            decoder.remove_input(value)


def _copy(target: Graph, value: Value, moved: dict[Value, Value]) -> Value:
    """The computation of `value` again in another graph, where `moved` says what its inputs are there."""
    if value not in moved:  # what the tokens have no part in
        node = value.node
        assert node is not None, f"{value!r} is not the encoder's"
        inputs = [None if v is None else _copy(target, v, moved) for v in node.inputs]
        types = [o.type for o in node.outputs]
        copy = target.emit(node.op, inputs, types, node.origin)
        moved.update(zip(node.outputs, copy.outputs, strict=True))
    return moved[value]
