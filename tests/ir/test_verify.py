"""The verifier: each kind of fault is named, and shown among the statements around it."""

from collections.abc import Callable

import pytest

from burnish.ir import OPS, Graph, Module, Node, Origin, Type, VerifyError, parse, verify
from burnish.ir.dims import Sym
from burnish.ir.guards import Equal

TEXT = """\
module {
  weights {
    @w: f32[4, 4]
  }
  guard "all small" graph small() {
    %0: bool[4] = less(f32([1.0, 2.0, 3.0, 4.0]), f32(5.0))
    return all=%0
  }
  graph forward(%x: f32[S, 4], %y: f32[S, 4]) {
    %0: f32[S, 4] = exp(%x)
    %1: f32[S, 4] = linear(%0, @w)
    %2: f32[S, 4] = add(%1, %y)
    %3: f32[S, 4] = if(bool(true), %2) {
      graph then(%x: f32[S, 4]) {
        %0: f32[S, 4] = neg(%x)
        return y=%0
      }
      graph else(%x: f32[S, 4]) {
        return y=%x
      }
    }
    %4: f32[S, 4] = tanh(%3)
    return y=%4
  }
}
"""


def damaged(damage: Callable[[Module, Graph, dict[str, Node]], object]) -> VerifyError:
    module = parse(TEXT)
    verify(module)
    graph = module.graphs["forward"]
    damage(module, graph, {n.op.name: n for n in graph})
    with pytest.raises(VerifyError) as error:
        verify(module)
    return error.value


def shows(error: VerifyError, message: str, op: str) -> None:
    """The fault by name, and the marked statement with its neighbours."""
    first, *around = str(error).splitlines()
    assert message in first
    marked = [line for line in around if line.startswith("  > ")]
    assert len(marked) == 1 and f" = {op}(" in marked[0], str(error)
    assert len(around) > 1, str(error)
    assert error.node is not None and error.node.op.name == op


def test_an_operand_of_another_graph() -> None:
    def damage(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        other = module.graph("other").input("z", Type("f32", (Sym("S"), 4)))
        nodes["add"].set_input(1, other)

    shows(damaged(damage), "graph forward: add: operand 1 is not a value of this graph", "add")


def test_a_body_that_reads_the_graph_around_it() -> None:
    def damage(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        (neg,) = nodes["if"].bodies[0]
        neg.set_input(0, nodes["exp"].out)

    shows(damaged(damage), "graph forward: exp: is read by neg of graph then", "exp")


def test_a_body_that_reads_an_input_around_it() -> None:
    def damage(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        (neg,) = nodes["if"].bodies[0]
        neg.set_input(0, graph.inputs[0])

    shows(damaged(damage), "graph then: neg: operand 0 is not a value of this graph", "neg")


def test_an_operand_that_was_erased() -> None:
    def damage(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        out = nodes["exp"].out
        nodes["linear"].set_input(0, graph.inputs[0])
        graph.erase(nodes["exp"])
        nodes["linear"].set_input(0, out)

    shows(damaged(damage), "linear: operand 0 is not a value of this graph", "linear")


def test_an_input_that_was_removed() -> None:
    def damage(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        graph.inputs.remove(graph.inputs[1])

    shows(damaged(damage), "add: operand 1 is an input that was removed", "add")


def test_a_use_that_is_not_recorded() -> None:
    shows(
        damaged(lambda module, graph, nodes: nodes["exp"].out.uses.clear()),
        "linear: operand 0 does not record this use",
        "linear",
    )


def test_a_recorded_use_that_is_none() -> None:
    def damage(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        nodes["linear"].out.uses[nodes["tanh"], 0] = None

    shows(damaged(damage), "linear: a recorded use of <linear: f32[S, 4]> is none", "linear")


def test_a_cycle() -> None:
    error = damaged(lambda module, graph, nodes: nodes["exp"].set_input(0, nodes["add"].out))
    assert "graph forward has a cycle through" in str(error)
    assert all(name in str(error) for name in ("exp", "linear", "add"))


def test_a_type_that_is_not_what_the_op_infers() -> None:
    def damage(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        nodes["add"].out.type = Type("f32", (Sym("S"), 5))

    shows(damaged(damage), "add: its type is f32[S, 5], but the op infers f32[S, 4]", "add")


def test_another_number_of_results() -> None:
    def damage(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        nodes["add"].outputs *= 2

    shows(damaged(damage), "add: its type is f32[S, 4], f32[S, 4], but the op infers f32[S, 4]", "add")


def test_operands_that_the_op_does_not_accept() -> None:
    def damage(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        nodes["add"].set_input(1, graph.ops.constant([1, 2, 3, 4], "i32"))

    shows(damaged(damage), "add: f32[S, 4] and i32[4] differ in element type", "add")


def test_a_missing_operand() -> None:
    shows(
        damaged(lambda module, graph, nodes: nodes["add"].set_input(1, None)), "add: operand b is missing", "add"
    )


def test_an_attribute_of_the_wrong_type() -> None:
    def damage(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        nodes["tanh"].op = OPS["softmax"](axis="last")

    shows(damaged(damage), "softmax: axis='last' is not of type", "softmax")


def test_a_weight_that_is_not_in_the_table() -> None:
    error = damaged(lambda module, graph, nodes: module.weights.clear())
    assert "graph forward: weight 'w': the table of weights does not have it" in str(error)
    assert "  > %1: f32[S, 4] = linear(%0, @w)" in str(error)  # a weight is shown where it is read


def test_a_weight_of_another_type() -> None:
    error = damaged(
        lambda module, graph, nodes: module.weights.update(parse(TEXT.replace("f32[4, 4]", "bf16[4, 4]", 1)).weights)
    )
    assert "weight 'w': the table says bf16[4, 4]" in str(error)


def test_an_assumption_that_is_not_recorded() -> None:
    text = """module {
      guard equal(S, T)
      graph forward(%x: f32[S], %y: f32[T]) {
        %0: f32[S] = add(%x, %y)
        %1: f32[S] = neg(%0)
        return y=%1
      }
    }"""
    verify(parse(text))
    with pytest.raises(VerifyError) as error:
        verify(parse(text.replace("guard equal(S, T)", "")))
    shows(error.value, "add: add(f32[S], f32[T]): S against T, and no guard says that they are equal", "add")


def test_a_slice_that_is_not_known_to_fit() -> None:
    text = """module {
      guard at_most(8, S)
      graph forward(%x: f32[S]) {
        %0: f32[8] = slice(%x, axis=0, start=0, stop=8)
        return y=%0
      }
    }"""
    verify(parse(text))
    for other in ("", "guard at_most(7, S)", "guard at_most(S, 8)", "guard equal(8, T)"):
        with pytest.raises(VerifyError) as error:
            verify(parse(text.replace("guard at_most(8, S)", other)))
        shows(
            error.value,
            "slice: 0:8 of axis 0 of f32[S]: 8 against S, and no guard says that it is at most that",
            "slice",
        )


def test_types_may_differ_where_a_guard_says_that_they_are_equal() -> None:
    text = "module { graph f(%x: f32[S]) { %0: f32[U] = neg(%x) return y=%0 } }"
    module = parse(text)
    with pytest.raises(VerifyError, match="but the op infers"):
        verify(module)
    module.guards += [Equal(Sym("S"), Sym("T")), Equal(Sym("U"), Sym("T"))]
    verify(module)


def test_another_number_of_bodies() -> None:
    def damage(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        nodes["if"].bodies = nodes["if"].bodies[:1]

    shows(damaged(damage), "if: 1 bodies", "if")

    def add(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        nodes["exp"].bodies = nodes["if"].bodies

    shows(damaged(add), "exp: has 2 bodies, needs 0", "exp")


def test_a_fault_inside_a_body() -> None:
    def damage(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        (neg,) = nodes["if"].bodies[0]
        neg.out.type = Type("f32", (4,))

    error = damaged(damage)
    assert "if: the bodies return" in str(error) or "graph then: neg: its type is f32[4]" in str(error)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ("graph g(%x: bool[4]) { return all=%x }", "must have no inputs and one output"),
        ("graph g() { return }", "must have no inputs and one output"),
        ("graph g() { return a=bool(true), b=bool(true) }", "must have no inputs and one output"),
        ("graph g() { return a=f32(1.0) }", "truth values"),
        ("graph g() { %0: bool[3] = less(f32(1.0), f32(2.0)) return a=%0 }", "but the op infers bool"),
    ],
)
def test_a_guard_is_a_graph_of_truth_values(graph: str, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        verify(parse(f'module {{ guard "why" {graph} }}'))


def test_an_output_that_is_not_a_value_of_the_graph() -> None:
    def damage(module: Module, graph: Graph, nodes: dict[str, Node]) -> None:
        stranger = Node(graph, OPS["neg"](), [graph.inputs[0]], [graph.inputs[0].type], Origin())
        graph.set_outputs({"y": stranger.out})

    first, *around = str(damaged(damage)).splitlines()
    assert "graph forward: return: operand 0 is not a value of this graph" in first
    assert around[-1].startswith("  > return y=")


@pytest.mark.parametrize(
    "nothing", ["concat(axis=0)", "stack()", "reshape(shape=3)", "iota()", "split(axis=0, sizes=3)"]
)
def test_nothing_but_a_verify_error(nothing: str) -> None:
    """Text is not checked against the ops as it is read: that is the verifier's work, whatever the text says."""
    name, attributes = nothing.split("(")
    try:
        module = parse(f"module {{ graph f() {{ %0: f32[2] = {name}({attributes} return y=%0 }} }}")
    except ValueError as e:
        assert "attributes ['size']" in str(e)
        return
    with pytest.raises(VerifyError):
        verify(module)
