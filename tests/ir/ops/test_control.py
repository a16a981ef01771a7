"""Ops that carry graphs."""

import numpy as np
import pytest

from burnish.ir import OPS, InferError, Module, Type, parse, verify
from burnish.testing import check_op, run_graph, run_jax, run_numpy
from burnish.testing.ops import gamma
from tests.ir.oracles import ELSE, ORACLES, THEN, branch, family, normal, op, packed


@pytest.mark.parametrize("name", family("ops.control"))
def test_an_op_obeys_the_laws(name: str) -> None:
    check_op(OPS[name], *ORACLES[name])


X, N = Type("f32", (3,)), Type("i32", ())


def module_with_if() -> Module:
    """if(c, x, 5) with the bodies of the oracles."""
    bodies = "\n".join(str(g) for g in (THEN, ELSE))
    text = f"""module {{
      graph forward(%c: bool[], %x: f32[3]) {{
        %0, %1: f32[3], i32[] = if(%c, %x, i32(5)) {{
          {bodies}
        }} <- "source"
        return y=%0, n=%1
      }}
    }}"""
    return parse(text)


def test_an_if_body_reads_back_verifies_and_runs() -> None:
    module = module_with_if()
    verify(module)
    text = str(module)
    assert "graph then(%x: f32[3], %n: i32[]) {" in text and "graph else(" in text
    assert parse(text) == module and str(parse(text)) == text
    x = np.float32([1, 2, 3])
    for c, y, n in [(True, [2, 3, 4], 5), (False, [2, 4, 6], -5)]:
        results = run_graph(module.graphs["forward"], np, [np.array(c), x])
        assert [r.tolist() for r in results] == [y, n]


def test_the_bodies_must_fit() -> None:
    condition = Type("bool", ())
    wrong = [
        ((Type("i32", ()), X, N), (THEN, ELSE), "not one truth value"),
        ((condition, X), (THEN, ELSE), "takes"),
        ((condition, X, N), (THEN,), "1 bodies"),
        ((condition, X, N), (THEN, branch("other", lambda op, x, n: {"y": x})), "return"),
    ]
    for operands, bodies, message in wrong:
        with pytest.raises(InferError, match=message):
            op("if").results(*operands, bodies=bodies)


def test_the_stacks_of_a_repeat_must_fit() -> None:
    (example,) = ORACLES["repeat"]
    types = [Type("f32", x.shape) for x in example.inputs]
    assert example.op.results(*types, bodies=example.bodies) == (types[0], types[2])
    with pytest.raises(InferError, match="is not a stack of 4"):
        example.op.results(*types[:3], Type("f32", (5, 2)), bodies=example.bodies)
    with pytest.raises(InferError, match="the body takes"):
        example.op.results(*types[:3], Type("f32", (4, 9)), bodies=example.bodies)


def test_a_repeat_slices_packed_stacks() -> None:
    """h * linear(h, w[i]) over a stack of quantized weights."""
    graph = Module().graph("body")
    h, w = graph.input("h", Type("f32", (1, 32))), graph.input("w", Type("q8_0", (32, 32)))
    graph.set_outputs({"h": graph.ops.linear(h, w)})
    stack = packed("q8_0", 3, 32, 32)
    h0 = normal(1, 32)
    expected, size = h0, np.abs(h0)
    for matrix in stack.dequantize(np):
        expected, size = expected @ matrix.T, size @ np.abs(matrix).T
    for run in (run_numpy, run_jax):
        (y,) = run(op("repeat", count=3, carries=1, shared=0, states=0), [h0, stack], (graph,))
        assert (np.abs(y - expected) <= 2 * gamma(3 * 32) * size).all()


def test_what_a_repeat_returns_besides_is_stacked() -> None:
    """x, s, y = x + s, -s, x + 1 over a state of three."""
    graph = Module().graph("body")
    x, s = graph.input("x", N), graph.input("s", N)
    graph.set_outputs({"x": graph.ops.add(x, s), "s": graph.ops.neg(s), "y": graph.ops.add(x, 1)})
    repeat = op("repeat", count=3, carries=1, shared=0, states=1)
    assert repeat.results(N, Type("i32", (3,)), bodies=(graph,)) == (N, *[Type("i32", (3,))] * 2)
    for run in (run_numpy, run_jax):
        x_, s_, y = run(repeat, [np.int32(10), np.int32([1, 2, 3])], (graph,))
        assert (x_.tolist(), s_.tolist(), y.tolist()) == (16, [-1, -2, -3], [11, 12, 14])
