"""Texts that end a text: found across pieces, nothing shown that is not clear, nothing asked for afterwards."""

from hypothesis import given
from hypothesis import strategies as st

from burnish.runtime.stop_strings import until

TEXTS = st.text("ab\n", max_size=12)


@given(st.lists(TEXTS, max_size=8), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3))
def test_the_borders_of_pieces_do_not_matter(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    # The shortest beginning of the text that ends with a stop, by the longest such stop.
    ended = (whole[: n - len(s)] for n in range(len(whole) + 1) for s in by_length(stops) if whole[:n].endswith(s))
    expected = next(ended, whole)
    assert "".join(until(pieces, stops)) == "".join(until(whole, stops)) == expected
    assert not any(s in expected for s in stops)


def by_length(stops: list[str]) -> list[str]:
    return sorted(stops, key=len, reverse=True)


def test_what_may_begin_a_stop_waits() -> None:
    shown = until(["The e", "n", "e", "nd", "!", "never"], ["end"])
    assert [next(shown) for _ in range(3)] == ["The ", "", "en"]
    asked = iter(["a", "\n", "\n", "b"])
    assert list(until(asked, ["\n\n"])) == ["a", "", ""]
    assert list(asked) == ["b"], "not asked for"


def test_what_waited_in_vain_is_shown_in_the_end() -> None:
    assert list(until(["a\n"], ["\n\n"])) == ["a", "\n"]
    assert list(until(["a", "b"], [])) == ["a", "b", ""]
