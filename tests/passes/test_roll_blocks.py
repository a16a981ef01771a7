"""roll-blocks: golden/roll-blocks shows what it does; here, which blocks it finds, and which it leaves alone."""

import random
from collections.abc import Callable

import numpy as np
import pytest

import burnish.backends.kernels  # noqa: F401  # registers the layouts of tiles
from burnish.ir.dims import Sym
from burnish.ir.graph import Node, Value
from burnish.ir.module import Module, WeightEntry
from burnish.ir.parser import parse
from burnish.ir.signature import PAST, Linked, Ring, Rows
from burnish.ir.types import Type
from burnish.ir.verify import verify
from burnish.ir.weights import MemoryWeights
from burnish.passes.engine import Application, Context
from burnish.passes.pipelines import parse_pipeline
from burnish.testing import run_graph

WIDTH = 8


@pytest.mark.parametrize("case", ["blocks", "caches"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("roll-blocks", case)


class Net:
    """A graph of residual blocks; every weight has a number of its own."""

    def __init__(self) -> None:
        self.module = Module()
        self.graph = self.module.graph("forward")
        self.op = self.graph.ops
        self.arrays: dict[str, np.ndarray] = {}
        self.module.source = MemoryWeights(self.arrays)

    def weight(self, *shape: int) -> Value:
        name = f"w{len(self.arrays)}"
        self.arrays[name] = np.random.default_rng(len(self.arrays)).standard_normal(shape).astype("f4") / 4
        self.module.weights[name] = WeightEntry(Type("f32", shape))
        return self.op.weight(name)

    def stream(self, name: str) -> Value:
        """The start of a residual stream."""
        return self.op.linear(self.graph.input(name, Type("f32", (Sym("B"), WIDTH))), self.weight(WIDTH, WIDTH))

    def mlp(self, x: Value, act: str = "silu") -> Value:
        hidden = getattr(self.op, act)(self.op.linear(x, self.weight(12, WIDTH)))
        return x + self.op.linear(hidden, self.weight(WIDTH, 12))

    def cross(self, x: Value, memory: Value) -> Value:
        """A block that reads something besides the stream."""
        return x + self.op.linear(x, self.weight(WIDTH, WIDTH)) * self.op.linear(memory, self.weight(WIDTH, WIDTH))

    def rolled(self, **outputs: Value) -> tuple[Module, Context]:
        """The module after the pass; its results are the same, bit by bit, and it reads back."""
        self.graph.set_outputs(outputs)
        self.module.normalize()
        verify(self.module)
        before = self.run()
        context = roll(self.module)
        assert all(np.array_equal(a, b) for a, b in zip(before, self.run(), strict=True))
        text = str(self.module)
        assert parse(text) == self.module and str(parse(text)) == text
        return self.module, context

    def run(self) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng(0)
        inputs = [rng.standard_normal((3, WIDTH)).astype("f4") for _ in self.graph.inputs]
        return run_graph(self.graph, np, inputs, self.arrays, {"B": 3})


def roll(module: Module, controller: Callable[[Application], str | None] = lambda a: None) -> Context:
    context = Context(module, controller)
    for pass_ in parse_pipeline("roll-blocks"):
        context.run(pass_)
    return context


def repeats(module: Module) -> list[tuple[int, list[str]]]:
    """(count, the body's ops) of every loop."""
    nodes = (n for n in module.graphs["forward"] if n.op.name == "repeat")
    return [(n.op.count, [inner.op.name for inner in n.bodies[0]]) for n in nodes]  # type: ignore[attr-defined]


def run_time(module: Module) -> list[Node]:
    return [n for n in module.graphs["forward"] if n.time == "run"]


BLOCK = ["linear", "silu", "linear", "add"]


def test_what_is_before_and_behind_the_blocks_stays() -> None:
    net = Net()
    x = net.stream("x")
    for _ in range(6):
        x = net.mlp(x)
    module, context = net.rolled(y=net.op.tanh(x))
    assert repeats(module) == [(6, BLOCK)]
    assert [n.op.name for n in run_time(module)] == ["linear", "repeat", "tanh"]
    assert len(context.applied) == 1


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_nodes_has_no_meaning(seed: int) -> None:
    net = Net()
    x = net.stream("x")
    for _ in range(4):
        x = net.mlp(x)
    net.graph.set_outputs({"y": x})
    nodes = list(net.graph)
    random.Random(seed).shuffle(nodes)
    net.graph._nodes = dict.fromkeys(nodes)
    assert repeats(net.rolled(y=x)[0]) == [(4, BLOCK)]


def test_blocks_that_alternate_are_blocks_of_two() -> None:
    net = Net()
    x = net.stream("x")
    for i in range(8):
        x = net.mlp(x, "silu" if i % 2 else "tanh")
    module, _ = net.rolled(y=x)
    assert repeats(module) == [(4, ["linear", "tanh", "linear", "add", *BLOCK])]


def test_five_of_one_kind_to_one_of_another() -> None:
    net = Net()
    x = net.stream("x")
    for i in range(13):
        x = net.mlp(x, "tanh" if i % 6 == 5 else "silu")
    module, _ = net.rolled(y=x)
    assert repeats(module) == [(2, [*BLOCK * 5, "linear", "tanh", "linear", "add"])]
    assert len(run_time(module)) == 2 + 4, "the thirteenth block is left over"


def test_two_stacks_in_one_graph() -> None:
    """As in a T5: all blocks of the second read the results of the first."""
    net = Net()
    memory = net.stream("source")
    for _ in range(3):
        memory = net.mlp(memory)
    x = net.stream("target")
    for _ in range(5):
        x = net.mlp(net.cross(x, memory))
    module, context = net.rolled(y=x)
    assert sorted(repeats(module)) == [(3, BLOCK), (5, ["linear", "linear", "mul", "add", *BLOCK])]
    assert len(context.applied) == 2
    assert len({a.id for a in context.applied}) == 2


def test_what_leaves_a_block_is_stacked_and_picked() -> None:
    net = Net()
    xs = [net.stream("x")]
    for _ in range(4):
        xs.append(net.mlp(xs[-1]))
    module, _ = net.rolled(y=xs[4], first=xs[1], third=net.op.tanh(xs[3]))
    assert repeats(module) == [(4, BLOCK)]
    assert [n.op.index for n in run_time(module) if n.op.name == "index"] == [0, 2]  # type: ignore[attr-defined]


def test_a_refused_run_stays_and_the_other_is_still_found() -> None:
    def build() -> Net:
        net = Net()
        memory = net.stream("source")
        for _ in range(3):
            memory = net.mlp(memory)
        x = net.stream("target")
        for _ in range(4):
            x = net.mlp(net.cross(x, memory))
        net.graph.set_outputs({"y": x})
        net.module.normalize()
        return net

    both = roll(build().module).applied
    for application, left in zip(both, [(3, BLOCK), (4, ["linear", "linear", "mul", "add", *BLOCK])], strict=True):
        module = build().module
        context = roll(module, lambda a, id=application.id: "not this one" if a.id == id else None)
        assert repeats(module) == [left]
        assert [a.id for a in context.applied] == [a.id for a in both if a is not application]


def test_a_chain_without_products_is_not_worth_a_loop() -> None:
    net = Net()
    x = net.stream("x")
    for _ in range(10):
        x = x + net.op.tanh(x)
    assert repeats(net.rolled(y=x)[0]) == []


def test_blocks_that_differ_in_anything_are_not_equal() -> None:
    net = Net()
    x = net.stream("x")
    x = x + net.op.linear(net.op.rms_norm(x, net.weight(WIDTH), eps=1e-5), net.weight(WIDTH, WIDTH))
    x = x + net.op.linear(net.op.rms_norm(x, net.weight(WIDTH), eps=1e-6), net.weight(WIDTH, WIDTH))
    assert repeats(net.rolled(y=x)[0]) == []


def test_a_stream_that_changes_its_type_begins_a_loop_behind_the_change() -> None:
    net = Net()
    x = net.op.cast(net.stream("x"), to="f64")
    for _ in range(3):
        x = net.op.cast(x, to="f32")
        x = x + net.op.linear(x, net.weight(WIDTH, WIDTH))
    assert repeats(net.rolled(y=x)[0]) == [(2, ["cast", "linear", "add"])]


def test_tiles_are_stacked_as_they_lie() -> None:
    """The last tile of a matrix is filled up: rows of the next do not move into it."""
    net = Net()
    x = net.stream("x")
    for _ in range(3):
        w = net.op.relayout(net.op.quantize(net.weight(5, 32), format="q4_0"), layout="tiles8")
        five = net.op.linear(net.op.linear(x, net.weight(32, WIDTH)), w, to="f32")
        x = x + net.op.concat(five, net.op.linear(x, net.weight(3, WIDTH)), axis=1)
    module, _ = net.rolled(y=x)
    assert repeats(module) == [(3, ["linear", "linear", "linear", "concat", "add"])]
    (loop,) = [n for n in module.graphs["forward"].order() if n.op.name == "repeat"]
    assert "q4_0.tiles8[3, 5, 32]" in [str(v.type) for v in loop.operands]


def test_two_caches_of_one_block_are_two_stacks() -> None:
    """A block of two layers has two caches: k0 and k1, k2 and k3, …"""
    net = Net()
    past, role = net.graph.input("past", Type("i32", (Sym("B"),)), PAST), Rows(batch=0, axis=1)
    x = net.op.unsqueeze(net.op.unsqueeze(net.stream("x"), axes=(1,)), axes=(1,))
    outputs: dict[str, Value] = {}
    for i in range(6):
        cache = net.graph.input(f"k{i}", Type("f32", (Sym("B"), Sym("C"), 1, WIDTH)), role)
        outputs[cache.name] = k = net.op.cache_update(cache, x, past)
        window = 3 if i % 2 else 0
        y = net.op.attention(x, k, k, past, scale=1.0, causal=True, window=window)
        x = x + net.op.linear(y, net.weight(WIDTH, WIDTH))
    net.graph.set_outputs({"y": x, **outputs}, dict.fromkeys(outputs, role))
    net.module.normalize()
    roll(net.module)
    verify(net.module)
    assert [f"{v.name}: {v.type}" for v in net.graph.inputs] == [
        "past: i32[B]",
        "x: f32[B, 8]",
        "k: f32[3, B, C, 1, 8]",
        "k_2: f32[3, B, C, 1, 8]",
    ]
    assert list(net.graph.outputs) == ["y", "k", "k_2"]
    assert set(net.graph.roles.values()) == {Rows(batch=1, axis=2)}


def test_what_another_graph_makes_for_each_block_is_stacked_there() -> None:
    """Keys of a cross-attention: stacked once, by the encoder, not at every step."""
    net = Net()
    encoder = net.module.graph("encoder")
    source = encoder.input("source", Type("f32", (Sym("B"), WIDTH)))
    x = net.stream("x")
    keys = {}
    for i in range(3):
        keys[f"key{i}"] = encoder.ops.tanh(source)
        x = net.mlp(x * net.graph.input(f"k{i}", source.type, Linked("encoder", f"key{i}")))
    encoder.set_outputs({"hidden": source, **keys})
    net.graph.set_outputs({"y": x})
    net.module.normalize()
    roll(net.module)
    verify(net.module)
    assert [v.name for v in net.graph.inputs] == ["x", "k"]
    assert net.graph.inputs[1].role == Linked("encoder", "key")
    assert list(encoder.outputs) == ["hidden", "key"] and str(encoder.outputs["key"].type) == "f32[3, B, 8]"


def test_inputs_of_each_block_that_nobody_makes_stay_apart() -> None:
    net = Net()
    x = net.stream("x")
    for i in range(3):
        x = net.mlp(x * net.graph.input(f"key{i}", Type("f32", (Sym("B"), WIDTH))))
    module, _ = net.rolled(y=x)
    assert [v.name for v in module.graphs["forward"].inputs] == ["x", "key0", "key1", "key2"]
    assert repeats(module) == [(3, ["mul", *BLOCK])]


def test_states_of_different_roles_stay_apart() -> None:
    """A ring is no rows, though its type is the same: a loop of one role would be another model."""
    net = Net()
    past = net.graph.input("past", Type("i32", (Sym("B"),)), PAST)
    x = net.op.unsqueeze(net.op.unsqueeze(net.stream("x"), axes=(1,)), axes=(1,))
    outputs: dict[str, Value] = {}
    roles = {f"k{i}": Ring(batch=0, axis=1, most=7) if i == 1 else Rows(batch=0, axis=1) for i in range(3)}
    for name, role in roles.items():
        cache = net.graph.input(name, Type("f32", (Sym("B"), Sym("C"), 1, WIDTH)), role)
        outputs[name] = k = net.op.cache_update(cache, x, past)
        x = x + net.op.linear(net.op.attention(x, k, k, past, scale=1.0, causal=True), net.weight(WIDTH, WIDTH))
    net.graph.set_outputs({"y": x, **outputs}, roles)
    net.module.normalize()
    roll(net.module)
    verify(net.module)
    assert {v.name: v.role for v in net.graph.states.values()} == roles
