"""What is assumed of the symbols."""

import pytest

from burnish.backends.binding import BindError, check_guards
from burnish.ir import InferError, Module, Ops, Type
from burnish.ir.dims import Sym, minimum
from burnish.ir.guards import AtMost, Equal, Guard, assume_at_most, assume_equal, broadcast, is_at_most, recording

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


def test_what_is_known_to_fit_needs_no_guard() -> None:
    for a, b in ((2, 3), (0, S), (S, S), (S, S + T), (minimum(S, 4), S)):
        assume_at_most(a, b, "here")


def test_what_may_fit_is_recorded_once() -> None:
    known: list[Guard] = []
    with recording(known):
        for a, b in ((2, S), (2, S), (1, S), (0, S - 1), (T, S), (T, S + 1), (T + 1, S + 1)):
            assume_at_most(a, b, "here")
            assert is_at_most(a, b)
        assert is_at_most(3, S) is None
        assert is_at_most(Sym("U") + 1, S) is None, "T is at most S, but that says nothing of U"
    assert known == [AtMost(2, S), AtMost(T, S)]
    assert is_at_most(2, S) is None


def test_what_does_not_fit_is_refused() -> None:
    for a, b in ((3, 2), (S + 1, S), (S, -1)):
        with recording([]), pytest.raises(InferError, match=r"here: .* is more than"):
            assume_at_most(a, b, "here")
    with pytest.raises(InferError, match="here: 8 against S, and no guard"):
        assume_at_most(8, S, "here")


@pytest.mark.parametrize(
    ("guard", "good", "bad", "message"),
    [
        (AtMost(8, S), [8, 9], [0, 7], "assumed that 8 <= S, but they are 8 and"),
        (AtMost(T, S), [4], [3], "assumed that T <= S, but they are 4 and 3"),
        (Equal(S, T), [4], [3, 5], "assumed that S = T, but they are"),
    ],
)
def test_guards_are_checked_when_the_symbols_are_bound(
    guard: Guard, good: list[int], bad: list[int], message: str
) -> None:
    module = Module(guards=[guard, AtMost(99, Sym("U"))])  # U is of another graph
    for n in good:
        check_guards(module, {"S": n, "T": 4}, lambda graph: False)
    for n in bad:
        with pytest.raises(BindError, match=message):
            check_guards(module, {"S": n, "T": 4}, lambda graph: True)


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


def test_what_a_rewrite_rests_on_is_said_before() -> None:
    """It is known to what is built afterwards; whoever applies the rewrite makes it the module's."""
    module = Module()
    graph = module.graph("f")
    x, op = graph.input("x", Type("f32", (S,))), Ops(graph, may_assume=False)
    with pytest.raises(InferError, match="8 against S, and no guard"):
        op.slice(x, axis=0, start=0, stop=8)
    op.assume(AtMost(8, S))
    assert op.slice(x, axis=0, start=0, stop=8).type == Type("f32", (8,))
    assert op.assumed == [AtMost(8, S)] and module.guards == []
