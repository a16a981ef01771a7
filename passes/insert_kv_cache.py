"""insert-kv-cache: a plain forward made stateful, the only way to a cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from burnish.ir.builder import Ops
from burnish.ir.dims import Sym
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.module import Module
from burnish.ir.ops.attention import Attention, Positions, RelativeBias
from burnish.ir.origin import Origin
from burnish.ir.types import Type
from burnish.passes.engine import Context, Pass

CAPACITY = Sym("C")  # rows of a cache


class InsertKvCache(Pass):
    """attention(q, k, v) causal -> attention(q, cache_update(k_cache, k, past), cache_update(v_cache, v, past), past)

    Positions count from `past[B]`. Keys and values that do not depend on the tokens (cross-attention) are computed
    once: what makes them moves to the graph `encoder`, whose results come in as inputs. New inputs: `past`,
    `k0`, `v0`, … (returned under the same names), and `cross_k0`, `cross_v0`, ….
    """

    exactness = "rounding"  # sums over a cache's rows add up in another order

    def run(self, module: Module, ctx: Context) -> None:
        for graph in module.graphs.values():
            if any(_needs_cache(n) for n in graph):
                ctx.restructure("InsertKvCache", graph, partial(_insert_caches, graph=graph))
        encoder, decoder = module.graphs.get("encoder"), module.graphs.get("decoder")
        if encoder is not None and decoder is not None and decoder.find_input("past") is not None:
            given = {v: o for v in decoder.inputs for n, o in encoder.outputs.items() if v.name == f"encoder_{n}"}
            if crossing := _crossing(decoder, given):
                change = partial(_attend_once, encoder=encoder, decoder=decoder, given=given, crossing=crossing)
                ctx.restructure("CrossAttentionOnce", decoder, change)


def _needs_cache(node: Node) -> bool:
    return isinstance(node.op, Attention) and node.op.causal and (len(node.inputs) < 4 or node.inputs[3] is None)


def _insert_caches(op: Ops, graph: Graph) -> None:
    batch = next(n.out.shape[0] for n in graph if _needs_cache(n))
    past = graph.input("past", Type("i32", (batch,)))
    caches: dict[str, Value] = {}

    def cached(letter: str, new: Value) -> Value:
        name = f"{letter}{len(caches) // 2}"
        cache = graph.input(name, new.type.with_shape((new.shape[0], CAPACITY, *new.shape[2:])))
        caches[name] = op.cache_update(cache, new, past)
        return caches[name]

    for node in graph.order():
        with op.at(Origin.union([node.origin], "InsertKvCache")):
            if isinstance(node.op, Positions):
                made = op.positions(node.inputs[0], past)
            elif isinstance(node.op, RelativeBias) and not node.op.bidirectional:
                made = op.emit(replace(node.op, key=CAPACITY), [node.inputs[0], past])
            elif _needs_cache(node):
                q, k, v, *_ = node.operands
                bias = node.inputs[5] if len(node.inputs) > 5 else None
                # No `count`: padding on the right is behind every real token already.
                made = op.emit(node.op, [q, cached("k", k), cached("v", v), past, None, bias])
            else:
                continue
        graph.replace(node.out, made)
    graph.set_outputs(graph.outputs | caches)


def _crossing(decoder: Graph, given: Iterable[Value]) -> list[Node]:
    """The attentions whose keys and values are made of what is given, and of nothing that the tokens have a part in."""
    fixed = set(given)
    for node in decoder.order():
        if any(v in fixed for v in node.operands) and all(v in fixed or v.time != "run" for v in node.operands):
            fixed.update(node.outputs)
    return [n for n in decoder.order() if isinstance(n.op, Attention) and fixed.issuperset(n.operands[1:3])]


def _attend_once(
    op: Ops, encoder: Graph, decoder: Graph, given: Mapping[Value, Value], crossing: Iterable[Node]
) -> None:
    """Those keys and values come in as results of the encoder; `given` says which of its results a value is."""
    results = encoder.outputs
    there = Ops(encoder)
    moved = dict(given)
    for i, node in enumerate(crossing):
        for position, letter in ((1, "k"), (2, "v")):
            value = node.operands[position]
            name = f"cross_{letter}{i}"
            results[name] = _again(there, value, moved)
            node.set_input(position, decoder.input(name, value.type))
    op.made += there.made
    encoder.set_outputs(results)
    decoder.erase_dead(list(decoder))
    for value in given:
        if not value.uses:
            decoder.remove_input(value)


def _again(op: Ops, value: Value, moved: dict[Value, Value]) -> Value:
    """The computation of `value` in another graph, where `moved` says what is there already."""
    if value not in moved:
        node = value.node
        assert node is not None, f"{value!r} is no result of the encoder"
        inputs = [None if v is None else _again(op, v, moved) for v in node.inputs]
        with op.at(node.origin if node.is_leaf else Origin.union([node.origin], "CrossAttentionOnce")):
            if node.is_leaf:
                made = op.emit_typed(node.op, inputs, [value.type])
            else:
                made = op.emit(node.op, inputs, node.bodies)
        moved.update(zip(node.outputs, made, strict=True))
    return moved[value]
