"""Walking graphs: each node after its operands, shortly before its first reader; what is known is left out."""

import pytest

from burnish.ir import Graph, Node, parse
from burnish.ir.walk import above, every_graph, post_order

TEXT = """module {
  graph f(%x: f32[4]) {
    %0: f32[4] = exp(%x)
    %1: f32[4] = neg(%x)
    %2: f32[4] = tanh(%1)
    %3: f32[4] = add(%0, %2)
    %4: f32[4] = abs(%0)
    return y=%3, z=%4
  }
}"""


def made() -> tuple[Graph, dict[str, Node]]:
    graph = parse(TEXT).graphs["f"]
    return graph, {n.op.name: n for n in graph}


def names(nodes: object) -> list[str]:
    return [n.op.name for n in nodes]


def test_operands_come_first_and_shortly_before_they_are_read() -> None:
    graph, n = made()
    assert names(post_order([graph.ret])) == ["exp", "neg", "tanh", "add", "abs", "return"]
    assert names(post_order([n["abs"], n["add"]])) == ["exp", "abs", "neg", "tanh", "add"]
    n["add"].set_input(0, n["tanh"].out)
    n["add"].set_input(1, n["exp"].out)
    assert names(post_order([graph.ret])) == ["neg", "tanh", "exp", "add", "abs", "return"]


def test_what_makes_known_values_is_left_out() -> None:
    graph, n = made()
    known = {n["tanh"].out}
    assert names(post_order([graph.ret], known)) == ["exp", "add", "abs", "return"]
    assert names(above(graph.outputs.values(), known)) == ["exp", "add", "abs"]
    assert names(above([n["tanh"].out, n["abs"].out], known)) == ["exp", "abs"]
    assert above([graph.inputs[0]]) == []


def test_what_is_not_within_is_left_out() -> None:
    graph, n = made()
    assert names(post_order([graph.ret], within=lambda node: node.op.name != "neg")) == [
        *("exp", "tanh", "add", "abs", "return")
    ]
    assert names(post_order([n["add"]], within=lambda node: False)) == ["add"], "a root is asked for"


def test_what_is_done_comes_first() -> None:
    graph, n = made()
    done = post_order([n["tanh"]])
    assert post_order([graph.ret], done=done) is done
    assert names(done) == ["neg", "tanh", "exp", "add", "abs", "return"]


def test_a_cycle_is_named_from_where_it_is_closed() -> None:
    graph, n = made()
    n["neg"].set_input(0, n["add"].out)
    with pytest.raises(ValueError, match=r"graph f has a cycle through add, tanh, neg$"):
        post_order([graph.ret])
    assert names(post_order([n["abs"]])) == ["exp", "abs"], "what does not depend on it has an order"
    assert names(above([n["add"].out], {n["tanh"].out})) == ["exp", "add"], "nor is there one through known values"


def test_what_waits_for_its_turn_is_not_in_the_cycle() -> None:
    """add reads exp, which the cycle goes through, and then tanh."""
    graph, n = made()
    n["exp"].set_input(0, n["add"].out)
    with pytest.raises(ValueError, match=r"cycle through add, exp$"):
        post_order([graph.ret])


def test_a_node_that_reads_itself_is_a_cycle() -> None:
    graph, n = made()
    n["neg"].set_input(0, n["neg"].out)
    with pytest.raises(ValueError, match=r"cycle through neg$"):
        post_order([graph.ret])


def test_only_the_end_of_a_long_cycle_is_named() -> None:
    graph = made()[0]
    y = first = graph.ops.neg(graph.inputs[0])
    for _ in range(20):
        y = graph.ops.exp(y)
    first.node.set_input(0, y)
    with pytest.raises(ValueError, match=r"cycle through (exp, ){7}neg$"):
        post_order([y.node])


def test_bodies_follow_the_graph_that_holds_them() -> None:
    inner = (
        "%0: f32[4] = if(bool(true), %x) { graph c(%x: f32[4]) { return y=%x } graph d(%x: f32[4]) { return y=%x } }"
    )
    outer = inner.replace("graph c(%x: f32[4]) { return y=%x }", f"graph a(%x: f32[4]) {{ {inner} return y=%0 }}", 1)
    module = parse(f"module {{ graph f(%x: f32[4]) {{ {outer} return y=%0 }} graph g() {{ return }} }}")
    assert [g.name for g in every_graph(module.graphs.values())] == ["f", "g", "a", "d", "c", "d"]
