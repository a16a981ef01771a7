"""What is assumed of the symbols."""

import pytest

from burnish.ir import InferError, Module, Type
from burnish.ir.dims import Sym
from burnish.ir.guards import Equal, assume_equal, broadcast, recording

S, T = Sym("S"), Sym("T")


def test_what_is_proved_needs_no_guard() -> None:
    assert assume_equal(S + T, T + S, "here") is S + T
    assert assume_equal(3, 3, "here") == 3


def test_without_a_place_to_record_it_an_assumption_is_refused() -> None:
    with pytest.raises(InferError, match="here: S against T, and no guard"):
        assume_equal(S, T, "here")


def test_two_numbers_are_never_assumed_equal() -> None:
    with recording([]), pytest.raises(InferError, match="here: 2 against 3"):
        assume_equal(2, 3, "here")


def test_an_assumption_is_recorded_once() -> None:
    known: list = []
    with recording(known):
        assert [assume_equal(S, T, "") for _ in range(2)] == [S, S]
        assert assume_equal(T, S, "") is T
        assert assume_equal(S, 4, "") == 4
    assert known == [Equal(S, T), Equal(S, 4)]


def test_recording_ends_with_its_block() -> None:
    with recording([]):
        assume_equal(S, T, "")
    with pytest.raises(InferError):
        assume_equal(S, T, "")


def test_broadcast() -> None:
    assert broadcast((S, 1, 4), (3, 1), where="") == (S, 3, 4)
    assert broadcast((), (2,), where="") == (2,)
    assert broadcast((0,), (1,), where="") == (0,)
    with recording([]):
        assert broadcast((S,), (4,), where="") == (4,)
    with pytest.raises(InferError, match="add: 2 against 3"):
        broadcast((2,), (3,), where="add")


def test_building_a_graph_records_in_its_module() -> None:
    module = Module()
    graph = module.graph("f")
    x, y = graph.input("x", Type("f32", (S,))), graph.input("y", Type("f32", (T,)))
    assert graph.ops.add(x, y).type == Type("f32", (S,))
    assert list(map(str, module.guards)) == ["equal(S, T)"]
