"""The plan of a package: its tensors, their parts and names; and that it is made in one visit."""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish.ir.builder import Ops
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.module import Module, WeightEntry
from burnish.ir.types import Type
from burnish.ir.weights import MemoryWeights
from burnish.runtime import parts
from burnish.runtime.inspection import describe
from burnish.runtime.package import write_package
from burnish.runtime.parts import Plan

MATRIX = Type("f32", (8, 8))


def of_weights(*names: str) -> Module:
    arrays = {n: np.full((8, 8), i, "f4") for i, n in enumerate(names)}
    return Module({n: WeightEntry(MATRIX) for n in names}, source=MemoryWeights(arrays))


def layer(op: Ops, x: Value, name: str) -> Value:
    return op.linear(x, op.weight(f"{op.path(name)}.weight"))


def stacks(*stacks: tuple[str, int], graph: str = "forward", module: Module | None = None) -> Module:
    """A graph with such stacks of blocks one after the other, and a head."""
    names = [f"{stack}.{i}.o.weight".removeprefix(".") for stack, count in stacks for i in range(count)]
    made = of_weights(*names, "head.weight")
    module = module or made
    module.weights |= made.weights
    g = module.graph(graph)
    op, x = g.ops, g.input("x", MATRIX)
    for stack, count in stacks:
        for i in range(count):
            with op.block(stack, i):
                x = layer(op, x, "o")
    g.set_outputs({"y": layer(op, x, "head")})
    module.normalize()
    return module


def names_of(module: Module) -> dict[str, list[str]]:
    return {part: [t.name for t in tensors] for part, tensors in Plan.of(module).parts.items()}


def test_one_stack_needs_no_name() -> None:
    assert names_of(stacks(("model.layers", 2))) == {
        "block_00": ["block_00/o.weight"], "block_01": ["block_01/o.weight"], "lm": ["lm/head.weight"],
    }  # fmt: skip


def test_two_stacks_of_one_graph_have_parts_of_their_own() -> None:
    module = stacks(("encoder.layers", 1), ("decoder.layers", 2))
    assert names_of(module) == {
        "encoder.layers.block_00": ["encoder.layers.block_00/o.weight"],
        "decoder.layers.block_00": ["decoder.layers.block_00/o.weight"],
        "decoder.layers.block_01": ["decoder.layers.block_01/o.weight"],
        "lm": ["lm/head.weight"],
    }
    text = str(module)
    assert "%0.0: f32[8, 8] = linear(%x, @encoder.layers.0" in text  # the first stack's block 0
    assert "%1.0.0: f32[8, 8] = linear(%0.0, @decoder.layers.0" in text  # the second's


def test_graphs_tell_their_stacks_apart() -> None:
    both = stacks(("block", 1), graph="decoder", module=stacks(("block", 1), graph="encoder"))
    assert [*names_of(both)] == ["encoder.block_00", "lm"]  # it is the same block, of the same weights
    module = stacks(("dense", 1), ("sparse", 1), graph="decoder", module=stacks(("block", 1), graph="encoder"))
    assert [*names_of(module)] == ["encoder.block_00", "lm", "decoder.dense.block_00", "decoder.sparse.block_00"]


def test_stacks_whose_names_would_make_one_file_are_told_apart() -> None:
    module = stacks(("a b", 1), ("a/b", 1), ("a_b_", 1), ("", 1), ("..", 1))
    expected = ["a_b.block_00", "a_b_.block_00", "a_b__.block_00", "block_00", "...block_00"]
    assert [p for p in names_of(module) if p != "lm"] == expected


def test_a_report_joins_blocks_of_one_stack(tmp_path: Path) -> None:
    report = write_package(stacks(("encoder.layers", 2), ("layers", 2)), tmp_path / "p")
    assert report.text().splitlines()[1:] == [
        "  encoder.layers.block_00..01: f32 256 bytes each",
        "  layers.block_00..01: f32 256 bytes each",
        "  lm: f32 256 bytes",
    ]


@pytest.mark.parametrize("scope", ["model.0", "model.layers.3", "experts.5", "layer.0.SelfAttention", ""])
def test_a_number_in_a_path_makes_no_block(scope: str) -> None:
    module = of_weights("a")
    g = module.graph("forward")
    with g.ops.scope(scope) if scope else nullcontext():
        g.set_outputs({"y": g.ops.linear(g.input("x", MATRIX), g.ops.weight("a"))})
    assert names_of(module) == {"lm": ["lm/a"]}


def test_what_lies_in_a_block_is_called_as_there() -> None:
    names = ("model.0.h.0.mlp.experts.5.w1", "model.0.h.0.mlp.experts.6.w1")
    module = of_weights(*names)
    g = module.graph("forward")
    op, x = g.ops, g.input("x", MATRIX)
    with op.scope("model.0"), op.block("h", 0):
        g.set_outputs({"y": op.linear(x, op.concat(op.weight(names[0]), op.weight(names[1]), axis=0))})
    assert names_of(module) == {"block_00": ["block_00/mlp.experts.{5,6}.w1"]}


def visits(monkeypatch: pytest.MonkeyPatch) -> Counter[Node]:
    """Counts how often each node is come by in the order of its graph."""
    seen: Counter[Node] = Counter()
    order = Graph.order

    class Counted(list[Node]):
        def __iter__(self) -> Iterator[Node]:
            for node in super().__iter__():
                seen[node] += 1
                yield node

    monkeypatch.setattr(Graph, "order", lambda graph: Counted(order(graph)))
    return seen


def shared(readers: int, depth: int) -> Module:
    """A tensor that `readers` nodes read, each behind a long way that they have in common."""
    module = of_weights("a")
    g = module.graph("forward")
    op, x = g.ops, g.input("x", MATRIX)
    w = op.weight("a")
    for _ in range(depth):
        w = op.transpose(w, perm=(1, 0))
    g.set_outputs({f"y{i}": op.linear(x, op.mul(w, float(i))) for i in range(readers)})
    module.normalize()
    return module


def test_a_plan_visits_each_node_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = shared(readers=20, depth=1500)
    asked: Counter[Any] = Counter()
    add = parts._WeightTime.add

    def counted(self: Any, node: Node) -> None:
        asked[node] += 1
        add(self, node)

    monkeypatch.setattr(parts._WeightTime, "add", counted)
    seen = visits(monkeypatch)
    plan = Plan.of(module)
    assert len(plan.tensors) == 20 and plan.nbytes == 20 * 8 * 8 * 4
    assert {t.origin.sources for t in plan.tensors} == {("a",)}
    assert set(seen.values()) == {1} and len(seen) == len(module.graphs["forward"])
    assert set(asked.values()) == {1} and set(asked) == {n for n in seen if n.time == "weight"}


@pytest.mark.parametrize("what", ["write", "describe"])
def test_everybody_plans_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    count, of = 0, Plan.of

    def counted(module: Module) -> Plan:
        nonlocal count
        count += 1
        return of(module)

    module = stacks(("layers", 2))
    monkeypatch.setattr(Plan, "of", counted)
    if what == "write":
        report = write_package(module, tmp_path / "p")
        assert (report.tensors, report.nbytes) == (3, 3 * 8 * 8 * 4)
    else:
        assert describe(module)["bytes_by_part"] == {p: {"f32": 256} for p in ("block_00", "block_01", "lm")}
    assert count == 1
