"""What a graph means: node by node, held to its types, freed at the last use; what is known before run time once."""

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from burnish.ir import Module, Node, Op, Packed, parse
from burnish.ir.run import RunError, evaluate_numpy, make_plan, run_graph, static_operands, static_values
from burnish.ir.weights import MemoryWeights
from burnish.testing.ops import gamma

TEXT = """module {
  weights {
    @a: f32[2, 3]
    @b: f32[2, 3]
    @unread: f32[9]
  }
  graph forward(%x: f32[N, 6]) {
    weights {
      @0: f32[2, 3] = add(@a, @b) <- "sum"
      @1: f32[2, 6] = concat(@0, @b, axis=1) <- "join"
    }
    %0: f32[2, 6] = tanh(@1) <- "load time"
    %1: f32[N, 2] = linear(%x, %0) <- "y"
    return y=%1, w=@1
  }
}"""
A, B = np.full((2, 3), 0.25, "f4"), np.full((2, 3), 0.5, "f4")


class Reading(MemoryWeights):
    """Copies of arrays, of which it is known who asked and which are alive."""

    def __init__(self) -> None:
        super().__init__({"a": A, "b": B})
        self.read_names: list[str] = []
        self.alive: dict[str, weakref.ref] = {}

    def read(self, name: str) -> np.ndarray:
        self.read_names.append(name)
        array = self.arrays[name].copy()
        self.alive[name] = weakref.ref(array)
        return array


def module() -> tuple[Module, Reading]:
    made, source = parse(TEXT), Reading()
    made.source = source
    return made, source


def test_only_what_run_time_reads_is_wanted() -> None:
    graph = module()[0].graphs["forward"]
    assert [v.op.name for v in static_operands(graph)] == ["concat", "tanh"]


def test_each_weight_is_read_once_and_what_was_made_of_it_is_freed() -> None:
    made, source = module()
    values = dict(static_values(static_operands(made.graphs["forward"])))
    gc.collect()
    joined = np.concatenate([A + B, B], axis=1)
    assert {v.op.name: a.tolist() for v, a in values.items()} == {
        "concat": joined.tolist(),
        "tanh": np.tanh(joined).tolist(),
    }
    assert sorted(source.read_names) == ["a", "b"]
    assert all(reference() is None for reference in source.alive.values())


def test_a_wanted_weight_stays() -> None:
    made, source = module()
    (leaf,) = [n.out for n in made.graphs["forward"] if n.op.name == "weight" and n.op.tensor == "b"]
    assert [a.tolist() for _, a in static_values([leaf])] == [B.tolist()]
    assert source.read_names == ["b"]


def test_a_result_that_nothing_reads_is_freed_at_once() -> None:
    """The second part of a split, which keeps all of its weight alive."""
    made = parse("""module {
      weights { @a: f32[2, 3] @b: f32[2, 3] }
      graph f() {
        weights {
          @0, @1: f32[2, 1], f32[2, 2] = split(@a, axis=1, sizes=[1, 2])
          @2: f32[2, 1] = neg(@0)
          @3: f32[2, 3] = neg(@b)
        }
        return x=@2, y=@3
      }
    }""")
    made.source = source = Reading()
    for v, _ in static_values(made.graphs["f"].outputs.values()):
        gc.collect()
        assert (source.alive["a"]() is None) or v.shape == (2, 1), "it went before the next weight was read"


def test_a_graph_runs_from_what_is_known() -> None:
    made, source = module()
    graph = made.graphs["forward"]
    x = np.ones((1, 6), "f4")
    y, w = run_graph(graph, {graph.inputs[0]: x})
    assert np.allclose(y, x @ np.tanh(w).T, rtol=0, atol=2 * gamma(6) * 6)
    again = run_graph(graph, {graph.inputs[0]: x, **dict(static_values(static_operands(graph)))})
    assert np.array_equal(y, again[0]) and len(source.read_names) == 4, "nothing known is read again"


def test_without_a_source_there_are_no_weights() -> None:
    graph = parse(TEXT).graphs["forward"]
    with pytest.raises(LookupError, match="graph text holds no weights: run what it was made of"):
        run_graph(graph, {graph.inputs[0]: np.ones((1, 6), "f4")})


# ----------------------------------------------------------------------------------------------------------- the types

TYPED = """module {
  graph f(%x: f32[N, 32]) {
    %0: f32[N, 32] = exp(%x)
    %1: q8_0[N, 32] = quantize(%0, format="q8_0")
    %2: f32[N, 32] = if(bool(true), %0) {
      graph then(%x: f32[N, 32]) { %0: f32[N, 32] = neg(%x) return y=%0 }
      graph else(%x: f32[N, 32]) { return y=%x }
    }
    return q=%1, y=%2
  }
}"""
X = np.zeros((2, 32), "f4")


def instead(name: str, result: Any) -> Any:
    """A run in which ops of that name give this result."""

    def run(op: Op, operands: Sequence[Any], dtypes: Sequence[str], bodies: Sequence[Any]) -> tuple[Any, ...]:
        return (result,) if op.name == name else evaluate_numpy(op, operands, dtypes, bodies)

    return run


@pytest.mark.parametrize(
    ("name", "result", "message"),
    [
        ("exp", X[:1], r"gives float32\[1, 32\], but is declared f32\[N, 32\] = f32\[2, 32\]"),
        ("exp", X.astype("f8"), r"gives float64\[2, 32\], but is declared f32"),
        ("exp", Packed.quantize(np, X, "q8_0"), r"gives q8_0\[2, 32\], but is declared f32"),
        ("quantize", X, r"gives float32\[2, 32\], but is declared q8_0"),
        ("quantize", Packed.quantize(np, X, "int8"), r"gives int8\[2, 32\], but is declared q8_0"),
        ("quantize", Packed.quantize(np, X, "q8_0").relayout(np, "planes"), "gives q8_0.*, but is declared q8_0"),
        ("neg", X[0], r"gives float32\[32\], but is declared f32\[N, 32\]"),
    ],
)
def test_a_result_of_another_type_is_found_where_it_arises(name: str, result: Any, message: str) -> None:
    graph = parse(TYPED).graphs["f"]
    with pytest.raises(RunError, match=message) as error:
        run_graph(graph, {graph.inputs[0]: X}, {"N": 2}, instead(name, result), check=True)
    assert f" = {name}(" in next(line for line in str(error.value).splitlines() if line.startswith("  > "))


def test_what_is_of_its_type_passes_the_check() -> None:
    graph = parse(TYPED).graphs["f"]
    q, y = run_graph(graph, {graph.inputs[0]: X}, {"N": 2}, check=True)
    assert np.allclose(q.dequantize(np), 1, atol=1e-3) and (y == -1).all()
    assert run_graph(graph, {graph.inputs[0]: X}, {"N": 2}, instead("neg", X[0]))[1].shape == (32,), "nobody checks"


# --------------------------------------------------------------------------------------------------- plans and bodies


def evaluated(node: Node, op: Op, bodies: Sequence[Any]) -> Any:
    return lambda operands: evaluate_numpy(op, operands, [o.dtype for o in node.outputs], bodies), "evaluated"


FREED = """module {
  graph f(%x: f32[4]) {
    %0: f32[4] = exp(%x)
    %1, %2: f32[1], f32[3] = split(%x, axis=0, sizes=[1, 3])
    %3: f32[4] = add(%0, %0)
    %4: f32[4] = neg(%3)
    %5: f32[4] = mul(%4, %3)
    return a=%2, b=%5, c=%4, d=%x
  }
}"""


def test_a_value_is_freed_after_its_last_reader() -> None:
    """Neither what leaves the graph nor what was given; and what nobody reads at once."""
    graph = parse(FREED).graphs["f"]
    x = graph.inputs[0]
    plan = make_plan(graph, {x}, {}, evaluated)
    assert [(s.node.op.name, [v.node.op.name for v in s.frees]) for s in plan.steps] == [
        ("split", ["split"]),
        ("exp", []),
        ("add", ["exp"]),
        ("neg", []),
        ("mul", ["add"]),
    ]
    assert plan.steps[0].frees == (plan.steps[0].node.outputs[0],)
    assert [y.shape for y in plan({x: np.zeros(4, "f4")})] == [(3,), (4,), (4,), (4,)]


class Watch:
    """A probe that takes ten seconds for itself after each node."""

    def __init__(self, ticks: list[float]) -> None:
        self.ticks, self.seen, self.wall, self.own = ticks, list[tuple[str, float]](), 0.0, 0.0
        self.results: list[weakref.ref] = []

    def node(self, node: Node, inputs: Any, outputs: Sequence[Any], seconds: float) -> None:
        self.seen.append((node.op.name, seconds))
        self.results.append(weakref.ref(outputs[-1]))
        self.ticks[0] += 10

    def finished(self, wall: float, own: float) -> None:
        self.wall, self.own = wall, own


def test_every_second_is_a_nodes_or_the_probes() -> None:
    graph, ticks = parse(FREED).graphs["f"], [0.0]

    def clock() -> float:
        ticks[0] += 1
        return ticks[0]

    watch = Watch(ticks)
    known = {graph.inputs[0]: np.zeros(4, "f4")}
    results = make_plan(graph, known, {}, evaluated)(known, watch, clock=clock)
    assert watch.seen == [(name, 1) for name in ("split", "exp", "add", "neg", "mul")]
    assert watch.own == 5 * 11 and watch.wall == 5 * 1 + watch.own
    gc.collect()
    assert [r() is not None for r in watch.results] == [True, False, False, True, True], "what leaves it lives"
    assert len(results) == 4


@pytest.mark.parametrize("condition", [True, False])
def test_bodies_run_at_the_sizes_of_their_graph(condition: bool) -> None:
    graph = parse("""module {
      graph f(%c: bool[], %x: i32[N]) {
        %0: i32[N] = if(%c, %x) {
          graph then(%x: i32[N]) {
            %0: i32[N] = iota(size=N)
            %1: i32[N] = repeat(%x, %0, count=3, carries=1, shared=1, states=0) {
              graph body(%x: i32[N], %y: i32[N]) { %0: i32[N] = add(%x, %y) return x=%0 }
            }
            return y=%1
          }
          graph else(%x: i32[N]) { return y=%x }
        }
        return y=%0
      }
    }""").graphs["f"]
    known = dict(zip(graph.inputs, (np.array(condition), np.full(4, 7, "i4")), strict=True))
    seen = []

    def run(op: Op, operands: Sequence[Any], dtypes: Sequence[str], bodies: Sequence[Any]) -> tuple[Any, ...]:
        seen.append(op.name)
        return evaluate_numpy(op, operands, dtypes, bodies)

    (y,) = run_graph(graph, known, {"N": 4}, run, check=True)
    assert y.tolist() == ([7, 10, 13, 16] if condition else [7] * 4)
    assert seen == (["if", "iota", "repeat", "add", "add", "add"] if condition else ["if"]), "only what is needed"
