"""Binding symbols to the sizes of inputs: what fits, what does not, and that the message names what and where."""

import re
from typing import Any

import numpy as np
import pytest

from burnish.backends.binding import BindError, bind_symbols, check_guards
from burnish.ir import Graph, Module
from burnish.ir.dims import Sym
from burnish.ir.guards import AllTrue, AtMost, Equal, Guard
from burnish.ir.parser import parse_type
from burnish.ir.types import NUMPY

B, S, T = Sym("B"), Sym("S"), Sym("T")


def graph(*types: str) -> Graph:
    """A graph with inputs a, b, … of these types."""
    made = Module().graph("f")
    for name, text in zip("abc", types, strict=False):
        made.input(name, parse_type(text))
    return made


def bound(types: tuple[str, ...], *shapes: tuple[int, ...]) -> dict[str, int]:
    made = graph(*types)
    return bind_symbols(made, {v.name: np.zeros(s, NUMPY[v.dtype]) for v, s in zip(made.inputs, shapes, strict=False)})


@pytest.mark.parametrize(
    ("types", "shapes", "sizes"),
    [
        ((), (), {}),
        (("f32[]",), [()], {}),
        (("f32[2, 3]",), [(2, 3)], {}),
        (("f32[B, S]", "i32[B]"), [(2, 3), (2,)], {"B": 2, "S": 3}),
        (("f32[S, S]",), [(3, 3)], {"S": 3}),
        (("f32[B, 0, S]",), [(0, 0, 5)], {"B": 0, "S": 5}),
        (("f32[S]", "f32[{2*S + 1}, T]"), [(3,), (7, 4)], {"S": 3, "T": 4}),
        (("f32[S]", "f32[T]", "f32[{S*T}]"), [(3,), (4,), (12,)], {"S": 3, "T": 4}),
        (("f32[S]", "f32[{floordiv(S, 2)}]"), [(5,), (2,)], {"S": 5}),
        (("f32[{2*S}]", "f32[S]"), [(6,), (3,)], {"S": 3}),
    ],
)
def test_symbols_are_the_sizes_of_inputs(
    types: tuple[str, ...], shapes: list[tuple[int, ...]], sizes: dict[str, int]
) -> None:
    assert bound(types, *shapes) == sizes


@pytest.mark.parametrize(
    ("types", "shapes", "message"),
    [
        (("f32[B, S]",), [(2,)], "input a must be f32[B, S], not [2] (with )"),
        (("f32[B]",), [(2, 1)], "input a must be f32[B], not [2, 1] (with )"),
        (("f32[]",), [(1,)], "input a must be f32[], not [1] (with )"),
        (("f32[B, 3]",), [(2, 4)], "input a must be f32[B, 3], not [2, 4] (with B=2)"),
        (("f32[4, 3]",), [(2, 3)], "input a must be f32[4, 3], not [2, 3] (with )"),
        (("f32[B, 1]",), [(2, 4)], "input a must be f32[B, 1], not [2, 4] (with B=2)"),
        (("f32[S, S]",), [(3, 4)], "input a must be f32[S, S], not [3, 4] (with S=3)"),
        (("f32[B, S]", "i32[B]"), [(2, 3), (1,)], "input b must be i32[B], not [1] (with B=2, S=3)"),
        (("f32[S]", "f32[{2*S}]"), [(3,), (7,)], "input b must be f32[{2*S}], not [7] (with S=3)"),
        (("f32[B, S]", "f32[B, S]"), [(2, 3), (3, 3)], "input b must be f32[B, S], not [3, 3] (with B=2, S=3)"),
    ],
)
def test_an_input_of_another_shape_is_named_with_both(
    types: tuple[str, ...], shapes: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(BindError, match=re.escape(f"graph f: {message}") + "$"):
        bound(types, *shapes)


@pytest.mark.parametrize(("type", "given"), [("i32[N]", "f8"), ("bool[N]", "f4"), ("i64[N]", "c8")])
def test_fractions_are_not_taken_for_whole_numbers(type: str, given: str) -> None:
    for good in ("i4", "i8", "u1", "?"):
        assert bind_symbols(graph(type), {"a": np.zeros(2, good)}) == {"N": 2}
    with pytest.raises(BindError, match=re.escape(f"graph f: input a must be {type}, not of {np.dtype(given)}")):
        bind_symbols(graph(type), {"a": np.zeros(2, given)})


@pytest.mark.parametrize(
    ("given", "missing", "extra"),
    [("", ["a", "b"], []), ("a", ["b"], []), ("abx", [], ["x"]), ("bxw", ["a"], ["w", "x"])],
)
def test_missing_and_extra_inputs_are_named(given: str, missing: list[str], extra: list[str]) -> None:
    message = f"graph f takes ['a', 'b']: missing {missing}, too many {extra}"
    with pytest.raises(BindError, match=re.escape(message) + "$"):
        bind_symbols(graph("f32[B]", "f32[B]"), {name: np.zeros(2) for name in given})


# -------------------------------------------------------------------------------------------------------------- guards


def all_true(reason: str, *sizes: Any) -> AllTrue:
    """A guard whose graph has values of these sizes."""
    body = Module().body("guard")
    values = [body.ops.equal(body.ops.iota(size=n), body.ops.iota(size=n)) for n in sizes]
    body.set_outputs({"holds": values[-1]})
    return AllTrue(reason, body)


SIZES = {"S": 4, "T": 6}


@pytest.mark.parametrize(
    ("guard", "message"),
    [
        (Equal(S, 4), None),
        (Equal(S, 5), "assumed that S = 5, but they are 4 and 5"),
        (Equal(S + 2, T), None),
        (Equal(T, S), "assumed that T = S, but they are 6 and 4"),
        (AtMost(S, 4), None),
        (AtMost(S, 3), "assumed that S <= 3, but they are 4 and 3"),
        (AtMost(5, S), "assumed that 5 <= S, but they are 5 and 4"),
        (AtMost(S * 2, T + 2), None),
        (AtMost(S * 2, T + 1), "assumed that {2*S} <= {T + 1}, but they are 8 and 7"),
        (Equal(S, B), None),  # B is of another graph
        (AtMost(99, B), None),
    ],
    ids=str,
)
def test_a_comparison_holds_or_says_of_what_numbers_it_does_not(guard: Guard, message: str | None) -> None:
    module = Module(guards=[Equal(S, S), guard])
    if message is None:
        check_guards(module, SIZES, lambda graph: False)
    else:
        with pytest.raises(BindError, match=re.escape(message) + "$"):
            check_guards(module, SIZES, lambda graph: True)


@pytest.mark.parametrize(
    ("symbols", "asked", "holds"),
    [((S,), True, True), ((S,), True, False), ((S, T), True, False), ((3,), True, False), ((S, B), False, False)],
)
def test_a_graph_is_run_where_all_of_its_symbols_are_bound(symbols: tuple[Any, ...], asked: bool, holds: bool) -> None:
    guard, seen = all_true("that it is so", *symbols), []
    module = Module(guards=[guard])

    def run(graph: Graph) -> bool:
        seen.append(graph)
        return holds

    if asked and not holds:
        with pytest.raises(BindError, match=r"^assumed that it is so, which does not hold with S=4, T=6$"):
            check_guards(module, SIZES, run)
    else:
        check_guards(module, SIZES, run)
    assert seen == [guard.graph] * asked


def test_every_guard_is_checked() -> None:
    last = all_true("the last", S)
    module = Module(guards=[AtMost(B, 1), all_true("the first", S), Equal(S, 4), last])
    with pytest.raises(BindError, match="assumed the last"):
        check_guards(module, SIZES, lambda graph: graph is not last.graph)
    with pytest.raises(ValueError, match="S = 4"):
        check_guards(module, {"S": 5}, lambda graph: True)
