"""What is known before run time: computed once, from what is needed, and freed on the way."""

import gc
import weakref

import numpy as np

from burnish.ir import Module, parse
from burnish.ir.run import run_graph, static_operands, static_values
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


def test_a_graph_runs_from_what_is_known() -> None:
    made, source = module()
    graph = made.graphs["forward"]
    x = np.ones((1, 6), "f4")
    y, w = run_graph(graph, {graph.inputs[0]: x})
    assert np.allclose(y, x @ np.tanh(w).T, rtol=0, atol=2 * gamma(6) * 6)
    again = run_graph(graph, {graph.inputs[0]: x, **dict(static_values(static_operands(graph)))})
    assert np.array_equal(y, again[0]) and len(source.read_names) == 4, "nothing known is read again"
