"""Every second of a run belongs to a node's kind or to the probe."""

import numpy as np
import pytest

from burnish.backends.interpreter import Interpreter
from burnish.ir import parse
from burnish.runtime.profile import TimeShare

TEXT = """module {
  graph forward(%x: f32[S, 4]) {
    %0: f32[4, S] = transpose(%x, perm=[1, 0])
    %1: f32[4, 4] = matmul(%0, %x)
    %2: f32[4, 4] = exp(%1)
    return y=%2
  }
}
"""


class Clock:
    """Moves on by one second each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def probed(share: TimeShare) -> TimeShare:
    interpreter = Interpreter(parse(TEXT))
    graph = interpreter.module.graphs["forward"]
    plan = interpreter.plan(graph, {"S": 3})
    plan({graph.inputs[0]: np.ones((3, 4), np.float32)}, share, clock=Clock())
    return share


def test_each_node_gets_the_time_from_the_end_of_the_one_before() -> None:
    share = probed(TimeShare())
    assert share.by_kind == {"memory": 1.0, "matmul": 1.0, "other": 1.0}
    assert share.calls == {("memory", "transpose"): 1, ("matmul", "matmul"): 1, ("other", "exp"): 1}


def test_the_sum_is_the_wall_time_less_the_probes_own() -> None:
    share = probed(TimeShare())
    assert (share.wall, share.own) == (6.0, 3.0)
    assert share.unaccounted == 0.0
    assert "the probe took 3000.00" in share.text()


def test_a_node_that_is_not_counted_shows() -> None:
    class Forgetful(TimeShare):
        def node(self, node, inputs, outputs, seconds):
            if node.op.name != "exp":
                super().node(node, inputs, outputs, seconds)

    assert probed(Forgetful()).unaccounted == pytest.approx(1.0)
