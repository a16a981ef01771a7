"""Sessions: what graphs are fed by the roles of their inputs, empty states, steps, and going back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from burnish.backends.binding import BindError
from burnish.backends.interpreter import Interpreter
from burnish.ir import Graph, Module, parse
from burnish.ir.parser import parse_type
from burnish.ir.signature import COUNT, MASK, PAST, POSITIONS, TOKEN_TYPES, TOKENS, Carry, Linked, Ring, Role, Rows
from burnish.runtime.session import Session, counts_of, feed, read_source

IDS, COUNTS, BEFORE = np.array([[5, 6, 7], [8, 9, 0]], "i4"), np.array([3, 2], "i4"), np.array([0, 4], "i4")


class Rounding(Interpreter):
    """An interpreter that takes lengths in fours only, as a backend that compiles for each size does."""

    def length(self, wanted: int) -> int:
        return -(-wanted // 4) * 4


# -------------------------------------------------------------------------------------------------------------- inputs


def graph(**inputs: tuple[str, Role | None]) -> Graph:
    made = Module().graph("f")
    for name, (type, role) in inputs.items():
        made.input(name, parse_type(type), role)
    return made


def listed(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: x.tolist() for name, x in inputs.items()}


@pytest.mark.parametrize("dtype", ["i32", "i64", "bool", "f32"])
@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (TOKENS, IDS),
        (MASK, [[1, 1, 1], [1, 1, 0]]),
        (TOKEN_TYPES, [[0, 0, 0], [0, 0, 0]]),
        (POSITIONS, [[0, 1, 2], [4, 5, 6]]),
        (COUNT, COUNTS),
        (PAST, BEFORE),
    ],
    ids=str,
)
def test_inputs_are_fed_by_their_roles_in_their_types(role: Role, expected: Any, dtype: str) -> None:
    """Whatever they are called."""
    fed = feed(graph(peculiar=(f"{dtype}[B, S]", role)), IDS, COUNTS, BEFORE)
    assert listed(fed) == {"peculiar": np.array(expected).astype(fed["peculiar"].dtype).tolist()}
    assert fed["peculiar"].dtype == {"i32": "i4", "i64": "i8", "bool": "?", "f32": "f4"}[dtype]


GIVEN = {("encoder", "hidden"): np.array([[1.5]]), ("other", "hidden"): np.array([[9.0]])}


def test_a_linked_input_is_what_that_graph_has() -> None:
    linked = graph(x=("f32[B, T]", Linked("encoder", "hidden")), y=("f32[B, T]", Linked("other", "hidden")))
    assert listed(feed(linked, IDS, COUNTS, BEFORE, GIVEN)) == {"x": [[1.5]], "y": [[9.0]]}
    absent = graph(x=("f32[B, T]", Linked("encoder", "count")))
    assert [feed(absent, IDS, COUNTS, BEFORE, given) for given in (GIVEN, {}, None)] == [{}] * 3, "nor made up"


def test_what_is_given_by_name_goes_before_roles() -> None:
    state, more = Rows(batch=0, axis=1), {"k": np.ones(1), "x": np.zeros(2), "mask": np.full(3, 7)}
    made = graph(ids=("i32[B, S]", TOKENS), k=("f32[B, C]", state), x=("f32[N]", None), mask=("i32[B, S]", MASK))
    assert listed(feed(made, IDS, COUNTS, BEFORE, more=more)) == {"ids": IDS.tolist()} | listed(more)
    assert set(feed(made, IDS, COUNTS, BEFORE)) == {"ids", "mask"}
    assert list(more) == ["k", "x", "mask"], "it is not written into"


def test_all_tokens_count_unless_it_is_said() -> None:
    assert counts_of(IDS, None).tolist() == [3, 3]
    for counts in ([3, 2], np.array([3, 2], "i8"), COUNTS):
        assert (counts_of(IDS, counts).tolist(), counts_of(IDS, counts).dtype) == ([3, 2], np.int32)


# -------------------------------------------------------------------------------------------------------------- states

RING = Ring(batch=0, axis=1, most=6)


@pytest.mark.parametrize(
    ("type", "role", "tokens", "shape"),
    [
        ("f32[B, C, 2]", Rows(batch=0, axis=1), 3, (2, 4, 2)),
        ("bf16[2, 5, C, B]", Rows(batch=3, axis=2), 9, (2, 5, 12, 2)),
        ("f32[2, 8, 3]", Rows(batch=0, axis=1), 6, (2, 8, 3)),
        ("f32[B, R, 2]", RING, 3, (2, 4, 2)),
        ("f32[B, R, 2]", RING, 5, (2, 6, 2)),
        ("f32[B, R, 2]", RING, 40, (2, 6, 2)),
        ("f32[3, B, R, 2]", RING.stacked(), 40, (3, 2, 6, 2)),
        ("f32[B, 7, 2]", RING, 3, (2, 7, 2)),
        ("i32[3, B]", Carry(batch=1), 40, (3, 2)),
    ],
)
def test_a_session_begins_with_empty_states(type: str, role: Role, tokens: int, shape: tuple[int, ...]) -> None:
    """As long as its capacity, which is the backend's to round up; a ring is at most as long as it need be."""
    backend = Rounding(Module(graphs={"f": graph(peculiar=(type, role), k=("f32[B]", None))}))
    session = Session.start(backend, "f", 2, tokens)
    assert (session.capacity, session.past.tolist(), session.given) == (backend.length(tokens), [0, 0], {})
    ((name, state),) = session.states.items()
    assert (name, state.shape) == ("peculiar", shape) and not state.any()
    assert state.dtype == backend.zeros(parse_type(type).with_shape((1,))).dtype


def test_a_graph_of_fixed_rows_refuses_more_tokens() -> None:
    backend = Interpreter(Module(graphs={"f": graph(k=("f32[B, 4]", Rows(batch=0, axis=1)))}))
    assert Session.start(backend, "f", 2, 3).states["k"].shape == (2, 4)
    with pytest.raises(ValueError, match="graph f is fixed to a session of 4 tokens, not 5"):
        Session.start(backend, "f", 2, 5)


def test_a_graph_of_a_fixed_batch_refuses_another() -> None:
    backend = Interpreter(Module(graphs={"f": graph(k=("f32[3, C]", Rows(batch=0, axis=1)))}))
    assert Session.start(backend, "f", 3, 5).states["k"].shape == (3, 5)
    for batch in (1, 2, 4):
        with pytest.raises(ValueError, match=f"graph f is fixed to a batch of 3, not {batch}"):
            Session.start(backend, "f", batch, 5)


# --------------------------------------------------------------------------------------------------------------- steps

#: what it has seen: in order, the last three in a ring, the sum of the real ones
MEMORY = """module {
  graph other(%z: f32[B, T]) { return z=%z }
  graph f(%ids: i32[B, S] is tokens, %count: i32[B] is count, %past: i32[B] is past, %mask: i32[B, S] is mask,
          %all: i32[B, C, 1, 1] is rows(batch=0, axis=1), %last: i32[B, R] is ring(batch=0, axis=1, most=3),
          %sum: i32[B] is carry(batch=0), %z: f32[B, T] is linked(graph="other", name="z")) {
    %0: i32[B, S, 1, 1] = unsqueeze(%ids, axes=[2, 3])
    %1: i32[B, C, 1, 1] = cache_update(%all, %0, %past)
    %2, %3: i32[B, R], i32[B, R] = ring_update(%last, %ids, %past, %count)
    %4: i32[B, S] = mul(%ids, %mask)
    %5: i32[B] = reduce_sum(%4, axes=[1], keepdims=false)
    %6: i32[B] = add(%sum, %5)
    return ids=%ids, all=%1 is rows(batch=0, axis=1), last=%2 is ring(batch=0, axis=1, most=3), before=%3,
           sum=%6 is carry(batch=0), z=%z
  }
}"""


def started(backend: type[Interpreter] = Interpreter, tokens: int = 8) -> Session:
    return Session.start(backend(parse(MEMORY)), "f", 2, tokens, {("other", "z"): np.full((2, 1), 0.5, "f4")})


def seen(session: Session) -> dict[str, Any]:
    """What a session holds; of the rows, those of its tokens."""
    rows = [x[:n, 0, 0].tolist() for x, n in zip(session.states["all"], session.past, strict=True)]
    return {"all": rows, "last": session.states["last"].tolist(), "sum": session.states["sum"].tolist()}


@pytest.mark.parametrize("backend", [Interpreter, Rounding])
def test_steps_go_on_from_what_came_before(backend: type[Interpreter]) -> None:
    session = started(backend)
    results = session.step(IDS, COUNTS)
    assert sorted(results) == ["before", "ids", "z"], "states stay in the session"
    assert results["ids"].tolist() == [[*row, 0][: backend(Module()).length(3)] for row in IDS.tolist()]
    assert results["before"].tolist() == [[0, 0, 0]] * 2 and results["z"].tolist() == [[0.5]] * 2
    assert seen(session) == {"all": [[5, 6, 7], [8, 9]], "last": [[5, 6, 7], [8, 9, 0]], "sum": [18, 17]}
    assert session.step(np.array([[1, 2], [3, 4]]))["before"].tolist() == [[5, 6, 7], [0, 8, 9]], "all of them count"
    assert seen(session) == {"all": [[5, 6, 7, 1, 2], [8, 9, 3, 4]], "last": [[1, 2, 7], [4, 9, 3]], "sum": [21, 24]}
    assert (session.past.tolist(), session.past.dtype) == ([5, 4], np.int32)
    session.step(IDS, np.array([0, 0], "i4"))
    assert seen(session)["sum"] == [21, 24] and session.past.tolist() == [5, 4]


class Refusing(Interpreter):
    """An interpreter that refuses token 99, and knows what probes it was given."""

    def __call__(self, graph: str, inputs: Mapping[str, Any], probe: Any = None) -> dict[str, Any]:
        self.probes = [*getattr(self, "probes", []), probe]
        if (inputs["ids"] == 99).any():
            raise BindError("refused")
        return super().__call__(graph, inputs, probe)


@pytest.mark.parametrize(
    ("ids", "counts", "message"),
    [
        (np.ones((2, 6), "i4"), None, r"\[9 8\] tokens do not fit a session of 8"),
        (np.ones((2, 7), "i4"), [5, 7], r"\[8 9\] tokens do not fit a session of 8"),
        (np.ones((2, 6), "i4"), [5, 7], r"\[5 7\] are not numbers of tokens of 2 rows of 6"),
        (np.ones((2, 6), "i4"), [-1, 0], r"\[-1  0\] are not numbers of tokens"),
        (np.ones((2, 6), "i4"), [3], r"\[3\] are not numbers of tokens of 2 rows"),
        (np.array([[99], [1]]), None, "refused"),
    ],
)
def test_a_step_that_is_refused_leaves_the_session_as_it_was(ids: np.ndarray, counts: Any, message: str) -> None:
    session = started(Refusing)
    session.step(IDS, COUNTS)
    before, states = seen(session), dict(session.states)
    with pytest.raises(ValueError, match=message):
        session.step(ids, counts)
    assert seen(session) == before and session.past.tolist() == [3, 2]
    assert all(session.states[name] is x for name, x in states.items())
    session.step(np.ones((2, 6), "i4"), np.array([5, 6]))
    assert session.past.tolist() == [8, 8], "what just fits is taken"


def test_a_copy_is_gone_back_to() -> None:
    session = started()
    session.step(IDS, COUNTS)
    kept, before = session.copy(), seen(session)
    session.step(np.array([[1, 2], [3, 4]]))
    assert seen(kept) == before != seen(session) and kept.past.tolist() == [3, 2]
    assert kept.given is session.given and kept.backend is session.backend, "what no step writes is shared"
    again = kept.copy()
    for one in (kept, again):
        one.step(np.array([[1, 2], [3, 4]]))
        assert seen(one) == seen(session)


# ------------------------------------------------------------------------------------------------------------- sources

FEEDERS = """module {
  graph encoder(%ids: i32[B, T] is tokens, %count: i32[B] is count, %mask: i32[B, T] is mask, %past: i32[B] is past) {
    %0: i32[B, T] = mul(%ids, %mask)
    return masked=%0, past=%count
  }
  graph second(%masked: i32[B, T] is linked(graph="encoder", name="masked"), %x: i32[B, T] is positions) {
    %0: i32[B, T] = add(%masked, %x)
    return sum=%0
  }
}"""


@pytest.mark.parametrize(("backend", "padding"), [(Interpreter, []), (Rounding, [0])])
@pytest.mark.parametrize("counts", [None, COUNTS])
def test_a_source_is_read_once_by_each_graph_in_order(
    backend: type[Interpreter], padding: list[int], counts: Any
) -> None:
    """What they have: what they were given under a name, and what they return, which goes before it."""
    run = backend(parse(FEEDERS))
    ids = np.array([[5, 6, 7], [8, 9, 4]])
    given = read_source(run, run.module.graphs, ids, counts)
    real = [[5, 6, 7], [8, 9, 4 if counts is None else 0]]
    n, last = 3 + len(padding), [0, 1, 2, 3][: 3 + len(padding)]
    masked = [[*row, *padding] for row in real]
    assert {k: x.tolist() for k, x in given.items()} == {
        ("encoder", "ids"): [[*row, *padding] for row in ids.tolist()],
        ("encoder", "count"): [3, 3] if counts is None else [3, 2],
        ("encoder", "mask"): [[int(i < c) for i in range(n)] for c in ([3, 3] if counts is None else [3, 2])],
        ("encoder", "masked"): masked,
        ("encoder", "past"): [3, 3] if counts is None else [3, 2],
        ("second", "masked"): masked,
        ("second", "x"): [last, last],
        ("second", "sum"): (np.array(masked) + last).tolist(),
    }


def test_a_probe_is_handed_on() -> None:
    class Probe:
        node = finished = staticmethod(lambda *_: None)

    probe, session = Probe(), started(Refusing)
    session.step(IDS, COUNTS, probe)
    session.step(IDS, COUNTS)
    assert session.backend.probes == [probe, None]
    source = Refusing(parse(FEEDERS))
    read_source(source, {"encoder": source.module.graphs["encoder"]}, IDS, probe=probe)
    assert source.probes == [probe]


# ----------------------------------------------------------------------------------------------------- texts by length

#: each token counts as often as its text has tokens, at least three times and at most MOST times
BY_LENGTH = """module {
  graph f(%ids: i32[B, S] is tokens, %mask: i32[B, S] is mask, %past: i32[B] is past,
          %length: i32[B] is length(limit=3, each=EACH), %sum: i32[B] is carry(batch=0), %x: i32[B, S] is token_types) {
    %0: i32[B, S] = mul(%ids, %mask)
    %1: i32[B] = reduce_sum(%0, axes=[1], keepdims=false)
    %2: i32[B] = maximum(%length, i32(3))
    %3: i32[B] = minimum(%2, i32(MOST))
    %4: i32[B] = mul(%1, %3)
    %5: i32[B] = add(%sum, %4)
    return sum=%5 is carry(batch=0), seen=%5, x=%x
  }
}"""


def by_length(each: str) -> Session:
    text = BY_LENGTH.replace("EACH", each).replace("MOST", "99" if each == "true" else "4")
    return Session.start(Interpreter(parse(text)), "f", 2, 8)


def test_a_text_that_grows_beyond_a_length_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, or with each token; sequences that did not grow so far are read again beside it, to the same."""
    monkeypatch.setattr("burnish.runtime.session.CHUNK", 2)
    steps = [([[1, 10], [2, 0]], [2, 1]), ([[100], [0]], [1, 0]), ([[1000], [0]], [1, 0]), ([[10000], [20]], [1, 1])]
    for each, expected in {
        "false": [[33, 6], [333, 6], [4444, 6], [44444, 66]],
        "true": [[33, 6], [333, 6], [4444, 6], [55555, 66]],
    }.items():
        session, found = by_length(each), []
        for ids, count in steps:
            found.append(session.step(np.array(ids, "i4"), np.array(count, "i4"))["seen"].tolist())
        assert found == expected, each
        assert session.past.tolist() == session.length.tolist() == [5, 2]


def test_what_is_known_of_a_length_beforehand_spares_reading_again() -> None:
    session, length = by_length("true"), np.array([4, 2])
    for token, sums in ((1, [4, 3]), (10, [44, 33])):
        seen = session.step(np.full((2, 1), token, "i4"), length=length)["seen"]
        assert seen.tolist() == sums
    copy = session.copy()
    assert copy.step(np.array([[100], [0]], "i4"), np.array([1, 0]), length=length)["seen"].tolist() == [444, 33]
    assert session.step(np.array([[7], [7]], "i4"))["seen"].tolist() == [54, 54], "it has become shorter"


def test_what_stood_beside_a_text_cannot_be_read_again() -> None:
    session, beside = by_length("false"), {"x": np.ones((2, 3), "i4")}
    session.step(IDS, beside=beside)
    with pytest.raises(BindError, match="a text of 6 tokens is read again, and not what was given beside it"):
        session.step(IDS, beside=beside)
