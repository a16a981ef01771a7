"""Modules, graphs, nodes and values: building, uses, order, times, provenance."""

import numpy as np
import pytest

from burnish.ir import OPS, Graph, InferError, Module, Origin, Type, WeightEntry, parse
from burnish.ir.builder import Ops
from burnish.ir.dims import Sym
from burnish.ir.origin import Block, block_of
from burnish.ir.signature import COUNT, HIDDEN, LOGITS, TOKENS, Rows
from burnish.ir.weights import MemoryWeights

S = Sym("S")
X = Type("f32", (S, 4))


def new() -> Graph:
    module = Module(weights={"w": WeightEntry(Type("f32", (4, 4))), "mlp.up.weight": WeightEntry(Type("f32", (8, 4)))})
    return module.graph("forward")


def test_building_infers_types() -> None:
    graph = new()
    op, x = graph.ops, graph.input("x", X)
    y = op.linear(x, op.weight("w"))
    parts = op.split(y + 1, axis=1, sizes=[1, 3])
    assert y.type == X
    assert [p.type.shape for p in parts] == [(S, 1), (S, 3)]
    assert y.op is not None and y.op.name == "linear"


def test_a_number_becomes_a_constant_of_the_other_operands_type() -> None:
    graph = new()
    op = graph.ops
    y = op.mul(graph.input("x", Type("bf16", (2,))), 0.1)
    assert y.node is not None and str(y.node.inputs[1]) == "<constant: bf16[]>"
    n = op.add(graph.input("n", Type("i32", (2,))), 1)
    assert n.type == Type("i32", (2,)) and n.node.inputs[1].literal.tolist() == 1


def test_mistakes_are_named() -> None:
    op, x = new().ops, new().input("x", X)
    with pytest.raises(InferError, match="there is no op 'soft_max'; did you mean softmax"):
        op.soft_max(x)
    with pytest.raises(InferError, match=r"softmax does not have .'dim'.; its attributes are .'axis'."):
        op.softmax(x, dim=1)
    with pytest.raises(InferError, match=r"cast needs .'to'."):
        op.cast(x)
    with pytest.raises(InferError, match="add takes 2 to 2 operands, not 3"):
        op.add(x, x, x)
    with pytest.raises(InferError, match="axis='1' is not of type"):
        op.softmax(x, axis="1")
    with pytest.raises(InferError, match="two inputs called 'x'"):
        x.graph.input("x", X)
    with pytest.raises(InferError, match="two graphs called 'forward'"):
        x.graph.module.graph("forward")


def test_operands_are_known_by_name() -> None:
    graph = new()
    op, ids, past = graph.ops, graph.input("ids", Type("i32", (2, 3))), graph.input("past", Type("i32", (2,)))
    x, w = op.cast(ids, to="f32"), op.constant([1.0, 1.0, 1.0])
    norm = op.layer_norm(w=w, x=x, eps=1e-5).node
    assert norm["x"] is x and norm["w"] is w and norm.get("b") is None
    assert op.attention(*[op.reshape(x, shape=(2, 3, 1, 1))] * 3, past=past, scale=1.0).node.inputs[3] is past
    with pytest.raises(InferError, match="layer_norm has no operand b here"):
        norm["b"]
    with pytest.raises(InferError, match="layer_norm has no operand 'c'; it has x, w, b"):
        norm.get("c")
    with pytest.raises(InferError, match="rms_norm: operand x is missing"):
        op.rms_norm(w=w, eps=1e-5)


def test_readings_say_as_what_a_value_is_read() -> None:
    graph = new()
    op, x = graph.ops, graph.input("x", X)
    twice = op.sub(x, x)
    joined = op.concat(twice, x, x, axis=0)
    graph.set_outputs({"y": joined, "x": x})
    assert x.readings == [
        *((twice.node, name) for name in ("a", "b")),
        *((joined.node, "xs") for _ in range(2)),
        (graph.ret, "values"),
    ]
    assert x.users == [twice.node, joined.node, graph.ret]


def test_a_node_again_with_some_operands_changed() -> None:
    graph = new()
    op, x = graph.ops, graph.input("x", X)
    w, b, wide = op.constant([1.0] * 4), op.constant([2.0] * 4), graph.input("wide", Type("f32", (9, 4)))
    node = op.layer_norm(x, w, b, eps=1e-5).node
    again = op.again(node, x=wide).node
    assert again.op is node.op and again.inputs == [wide, w, b] and again.out.type == wide.type
    shorter = op.again(node, b=None).node
    assert shorter.inputs == [x, w]
    assert op.emit(node.op, [x, w, None]).node.inputs == [x, w], "operands that are left out at the end are not there"
    seen = graph.input("q", Type("f32", (2, 4, 1, 8)))
    assert len(op.attention(seen, seen, seen, None, None, None, scale=1.0).node.inputs) == 3, "however many"
    changed = op.again(shorter, OPS["layer_norm"](eps=1.0), b=b).node
    assert changed.inputs == [x, w, b] and (changed.op.eps, node.op.eps) == (1.0, 1e-5)
    with pytest.raises(InferError, match="does not scale the last axis"):
        op.again(node, w=op.constant([1.0]))
    with pytest.raises(InferError, match="layer_norm has no operand 'y'"):
        op.again(node, y=w)
    bodies = [graph.module.body(name) for name in ("then", "else")]
    for body in bodies:
        body.set_outputs({"y": body.input("x", X)})
    kept = op.if_(op.constant(True, "bool"), x, bodies=bodies).node
    assert op.again(kept, condition=op.constant(False, "bool")).node.bodies == tuple(bodies)


def test_roles_are_asked_for() -> None:
    graph = new()
    ids, k = graph.input("i", Type("i32", (1, S)), TOKENS), graph.input("k", X, Rows(batch=0, axis=1))
    x = graph.input("x", X)
    graph.set_outputs({"y": x, "k": k}, {"y": HIDDEN, "k": k.role})
    assert graph.input_for(TOKENS) is ids and graph.input_for(COUNT) is None
    assert graph.output_for(HIDDEN) is x and graph.output_for(LOGITS) is None
    assert graph.states == {"k": k}
    graph.set_outputs({"k": k, "z": x}, {"z": LOGITS})
    assert graph.roles == {"k": k.role, "z": LOGITS}, "a name that stays keeps its role"


def test_the_main_graph_reads_tokens_and_feeds_no_other() -> None:
    module = parse("""module {
      graph helper(%x: f32[4]) { return y=%x }
      graph encoder(%ids: i32[B, S] is tokens, %h: f32[B, S, 4]) { return hidden=%h }
      graph decoder(%ids: i32[B, T] is tokens, %h: f32[B, S, 4] is linked(graph="encoder", name="hidden")) {
        return y=%h
      }
    }""")
    assert module.main is module.graphs["decoder"]
    assert module.feeders == {"encoder": module.graphs["encoder"]}
    assert Module().main is None


def test_a_copy_is_equal_and_apart() -> None:
    module = parse("""module {
      task = "fill-mask"
      weights { @w: f32[4, 4] }
      guard "small" graph small() { %0: bool[] = less(f32(1.0), f32(2.0)) return all=%0 }
      graph f(%ids: i32[B, S] is tokens, %x: f32[4], %k: f32[B] is carry(batch=0)) {
        %0: f32[4] = if(bool(true), %x) {
          graph then(%x: f32[4]) { return y=%x }
          graph else(%x: f32[4]) { %0: f32[4] = neg(%x) return y=%0 }
        }
        %1: f32[4] = linear(%0, @w)
        return y=%1 is hidden, k=%k is carry(batch=0)
      }
    }""")
    module.source = MemoryWeights({})
    copy = module.copy()
    assert copy == module and str(copy) == str(module) and copy.source is module.source
    assert all(g.module is copy and g.ops.graph is g for g in copy.every_graph)
    assert copy.guards[0].graph.module is copy
    before = str(module)
    copy.weights.clear()
    copy.guards.clear()
    for graph in copy.every_graph:
        graph.set_outputs({})
    assert str(module) == before


def test_leaves_are_shared() -> None:
    graph = new()
    op = graph.ops
    assert op.weight("w") is op.weight("w")
    assert op.constant(1.0) is op.constant(1.0)
    assert op.constant(1.0) is not op.constant(1.0, "f64")
    assert op.constant(0.0) is not op.constant(-0.0)
    gone = op.weight("w")
    graph.erase(gone.node)
    assert op.weight("w").node in graph and op.weight("w") is not gone, "but not one that was erased"


def test_uses_follow_the_operands() -> None:
    graph = new()
    op, x = graph.ops, graph.input("x", X)
    y = op.add(x, x)
    graph.set_outputs({"y": y})
    assert list(x.uses) == [(y.node, 0), (y.node, 1)] and x.users == [y.node]
    assert y.users == [graph.ret]  # leaving the graph is a use
    z = op.neg(x)
    graph.replace(y, z)
    assert not y.uses and graph.outputs == {"y": z}
    graph.erase(y.node)
    assert y.node not in graph and x.users == [z.node]


def test_erasing_takes_dead_operands_along() -> None:
    graph = new()
    op, x = graph.ops, graph.input("x", X)
    kept = op.neg(x)
    dead = op.add(op.exp(kept), op.weight("w"))
    graph.set_outputs({"y": kept})
    erased = graph.erase_dead([dead.node, kept.node])
    assert sorted(n.op.name for n in erased) == ["add", "exp", "weight"]
    assert [n.op.name for n in graph] == ["neg"]


def test_order_is_weight_time_first_then_as_the_outputs_ask() -> None:
    graph = new()
    op, x = graph.ops, graph.input("x", X)
    unused = op.tanh(x)
    late = op.linear(op.exp(x), op.transpose(op.weight("w"), perm=(1, 0)))
    graph.set_outputs({"y": late})
    graph.module.normalize()
    assert [n.op.name for n in graph] == ["weight", "transpose", "exp", "linear", "tanh"]
    assert unused.node in graph
    graph.normalize()
    assert [n.op.name for n in graph.order()] == [n.op.name for n in graph]


def test_a_cycle_is_named() -> None:
    graph = new()
    op, x = graph.ops, graph.input("x", X)
    a = op.exp(x)
    b = op.tanh(a)
    a.node.set_input(0, b)
    graph.set_outputs({"y": b})
    with pytest.raises(ValueError, match=r"forward has a cycle through tanh, exp$"):
        graph.normalize()


def test_a_long_chain_needs_no_stack() -> None:
    graph = new()
    y = graph.input("x", X)
    for _ in range(5000):
        y = graph.ops.neg(y)
    graph.set_outputs({"y": y})
    graph.normalize()
    assert len(graph) == 5000


def test_times() -> None:
    graph = new()
    op, x, w = graph.ops, graph.input("x", X), graph.ops.weight("w")
    assert x.time == "run" and w.time == "weight" and w.is_weight
    assert op.transpose(w, perm=(1, 0)).time == "weight"
    assert op.quantize(op.reshape(w, shape=(1, 16)), format="int8").time == "weight"
    assert op.exp(w).time == "load"  # not the same bytes on every machine
    assert op.transpose(op.exp(w), perm=(1, 0)).time == "load"
    assert op.iota(size=4).time == "load" and op.iota(size=S).time == "run"
    assert op.broadcast_to(w, shape=(S, 4, 4)).time == "run"
    assert op.add(x, w).time == "run"


def test_origins_are_unique() -> None:
    op, x = new().ops, new().input("x", X)
    op = x.graph.ops
    with op.scope("model"):
        names = [op.neg(x).node.origin.sources for _ in range(3)]
    assert names == [("forward:model:neg",), ("forward:model:neg.2",), ("forward:model:neg.3",)]
    fixed = Origin("a", ("b",), ("c",))
    made = Ops(x.graph, fixed)
    assert made.neg(x).node.origin == fixed and [n.op.name for n in made.made] == ["neg"]


def test_a_block_says_that_it_is_one() -> None:
    op = new().ops
    x = op.graph.input("x", X)
    with op.scope("model"), op.block("layers", 3), op.scope("mlp.experts.5"):
        node = op.neg(x).node
        assert op.path("w1", "weight") == "model.layers.3.mlp.experts.5.w1.weight"
    assert op.path("ids") == "ids"
    assert node.origin.scope == "model.layers[3].mlp.experts.5"
    assert block_of(node.origin.scope) == Block("model.layers", 3)


def test_weights_that_a_node_reads_are_known_by_their_sources() -> None:
    module = parse("""module {
      weights { @a: f32[4, 4] <- "file:q" @b: f32[4, 4] }
      graph f(%x: f32[4]) {
        weights { @0: f32[8, 4] = concat(@a, @b, axis=0) }
        %0: f32[8] = linear(%x, @0)
        return y=%0
      }
    }""")
    nodes = {n.op.name: n for n in module.graphs["f"]}
    assert nodes["linear"].source_tensors == ("file:q", "b")


def test_constants_are_collected_from_bodies_and_guards_are_not_values() -> None:
    module = Module()
    graph = module.graph("f")
    x = graph.input("x", Type("f32", (9,)))
    bodies = []
    for name in ("then", "else"):
        body = module.body(name)
        body.set_outputs({"y": body.ops.add(body.input("x", x.type), body.ops.constant(np.arange(9, dtype="f4")))})
        bodies.append(body)
    graph.set_outputs({"y": graph.ops.if_(graph.ops.constant(True, "bool"), x, bodies=bodies)})
    assert [a.tolist() for a in module.constants().values()] == [list(range(9))]
    assert [g.name for g in module.every_graph] == ["f", "then", "else"]


def test_to_networkx() -> None:
    graph = new()
    op, x = graph.ops, graph.input("x", X)
    graph.set_outputs({"y": op.neg(op.exp(x))})
    (edge,) = graph.to_networkx().edges
    assert [n.op.name for n in edge] == ["exp", "neg"]


def test_the_symbols_of_a_graph_are_those_of_types_and_attributes() -> None:
    graph = Module().graph("f")
    op, x = graph.ops, graph.input("x", Type("f32", (Sym("B"),)))
    graph.set_outputs({"y": op.slice(op.iota(size=9), axis=0, start=Sym("T"), stop=Sym("T") + 1), "x": x})
    assert graph.symbols == {"B", "T"}
