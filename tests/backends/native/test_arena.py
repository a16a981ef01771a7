"""Memory that is used again: nothing lies on what is still needed, and not much more than is needed is asked for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from burnish.backends.native.arena import ALIGN, lay_out, lives_of
from burnish.backends.native.tensor import Memory


def made(nbytes: int) -> Memory:
    return Memory(np.empty(nbytes, np.uint8), "made")


lives = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 20), st.integers(0, 5)), max_size=25)


@given(lives)
def test_no_two_that_are_needed_at_once_overlap(given_lives: list[tuple[int, int, int]]) -> None:
    wanted = {made(size): (first, first + more) for size, first, more in given_lives}
    at, total = lay_out(wanted)
    placed = [(at[m], at[m] + m.array.nbytes, *phases) for m, phases in wanted.items()]
    for i, (low, high, first, last) in enumerate(placed):
        assert low % ALIGN == 0 and high <= total
        for other_low, other_high, other_first, other_last in placed[:i]:
            if first <= other_last and other_first <= last:
                assert high <= other_low or other_high <= low


def test_what_is_not_needed_any_more_makes_room() -> None:
    a, b, c = made(640), made(640), made(640)
    at, total = lay_out({a: (0, 1), b: (1, 2), c: (2, 3)})
    assert (at[a], at[c]) == (at[c], at[a]) and total == 1280


def test_a_memory_is_needed_from_the_first_phase_that_touches_it_to_the_last() -> None:
    a, b, fixed = made(1), made(1), Memory(np.empty(1), "fixed")
    assert lives_of([[a, fixed], [b], [a], [b, b]]) == {a: (0, 2), b: (1, 3)}
