"""What a model is given to read, by its roles, its numbers and its sizes, or by who asks."""

import numpy as np
import pytest

from burnish.backends.binding import BindError
from burnish.debug.readings import Call, Steps
from burnish.debug.samples import LONGEST, numbers_in, reading_of, readings_of
from burnish.ir import parse
from tests.decoder import VOCABULARY, decoder
from tests.planted import windowed

NAMES = ["a sequence of 1 token", "sequences of 7, 4, 1 tokens and 3 steps", "sequences of 27, 9 tokens and 5 steps"]


def test_one_token_sequences_of_different_lengths_and_a_long_one() -> None:
    readings = list(readings_of(decoder()))
    assert [r.name for r in readings] == NAMES
    _, ragged, long = readings
    assert isinstance(ragged, Steps) and isinstance(long, Steps)
    assert [c.tolist() for _, c in ragged.steps] == [[7, 4, 1], [1, 1, 1], [1, 1, 1], [2, 0, 1]]
    assert ragged.whole[1].tolist() == [11, 6, 4]
    ids = np.concatenate([i.ravel() for i, _ in long.steps])
    assert ids.min() >= 0 and ids.max() < VOCABULARY


def test_numbers_of_a_graph_are_straddled() -> None:
    numbers = numbers_in(windowed())
    assert 7 in numbers
    sizes = {int(r.whole[1].max()) for r in readings_of(windowed(), numbers=[7, 40, 1000]) if isinstance(r, Steps)}
    assert sizes == {1, 11, 43, 8, 41}  # beyond all of them; just those, and one step more
    assert max(sizes) < LONGEST + 8


def test_sizes_that_are_asked_for() -> None:
    (reading,) = readings_of(decoder(), sizes={"S": 9, "B": 2})
    assert isinstance(reading, Steps)
    assert [c.tolist() for _, c in reading.steps] == [[6, 4], [1, 1], [1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"T": 3}, "there is no size 'T'; the sizes of the graph are B, S"),
        ({"S": 0}, "S=0: a size is at least 1"),
        ({"S": 10**6}, "more than can be checked"),
        ({"S": 10**18, "B": 10**18}, "more than can be checked"),
    ],
)
def test_sizes_that_cannot_be(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(BindError, match=message):
        list(readings_of(decoder(), sizes=sizes))


def test_graphs_without_roles_are_called() -> None:
    module = parse("module { graph f(%x: f32[N, 8]) { %0: f32[N, 8] = exp(%x) return y=%0 } }")
    readings = list(readings_of(module))
    assert all(isinstance(r, Call) for r in readings)
    assert [r.name for r in readings] == ["inputs x[2, 8]", "inputs x[1, 8]", "inputs x[33, 8]", "zeros"]


def test_given_tokens_come_in_steps() -> None:
    reading = reading_of(decoder(), {"ids": np.arange(8).reshape(2, 4)})
    assert isinstance(reading, Steps)
    assert reading.whole[0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]] and len(reading.steps) == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tokens": np.zeros((1, 2), "i4")}, "the model's inputs are forward.ids; given are tokens"),
        ({}, "given are none"),
        ({"ids": np.zeros((1, 2))}, "the given array is of float64"),
        ({"ids": np.array([["a"]])}, "the given array is of <U1"),
        (
            {"ids": np.array([[VOCABULARY]])},
            f"holds {VOCABULARY} to {VOCABULARY}; the input takes 0 to {VOCABULARY - 1}",
        ),
        ({"ids": np.array([[-1]])}, "the input takes 0 to"),
    ],
)
def test_arrays_that_do_not_fit(given: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(BindError, match=message):
        reading_of(decoder(), given)


def test_numbers_that_are_none_are_refused() -> None:
    module = parse("module { graph f(%x: f32[N]) { %0: f32[N] = exp(%x) return y=%0 } }")
    with pytest.raises(BindError, match="x: the given array holds numbers that are not finite"):
        reading_of(module, {"x": np.array([1.0, np.nan])})
