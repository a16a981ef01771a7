"""Tokens: what lies between them, what kind they are, where they stand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.ir.lexer import Lexer, TextError

TOKENS = [
    ('"a \\" b"', "string"),
    ("%0", "ref"),
    ("@model.layers.3:0", "ref"),
    ('%"a b"', "ref"),
    ("-1.5e-3", "number"),
    ("-inf", "number"),
    ("f32", "name"),
    ("<-", "mark"),
    ("[", "mark"),
]
SPACES = ["", " ", "\n\t ", "\u00a0", "# what follows is no token: %0\n", " # a\n\n  # b\n"]


@given(st.lists(st.tuples(st.sampled_from(TOKENS), st.sampled_from(SPACES[1:]))), st.sampled_from(SPACES))
def test_tokens_come_in_order_whatever_lies_between(tokens: list[tuple[tuple[str, str], str]], first: str) -> None:
    lexer = Lexer(first + "".join(token + space for (token, _), space in tokens))
    for (token, kind), _ in tokens:
        assert (lexer.token, lexer.kind) == (token, kind)
        assert lexer.text[lexer.start : lexer.at] == token
        lexer.advance()
    assert (lexer.token, lexer.kind) == ("the end", "end")
    lexer.advance()
    assert lexer.kind == "end", "and it stays there"


def test_a_comment_may_be_the_last_thing() -> None:
    assert Lexer("# no line ends here").kind == "end"


@pytest.mark.parametrize("text, line", [("\n\n  ?", 3), ('# one\n"no end', 2), ("$", 1)])
def test_what_is_no_token_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(TextError, match=f"line {line}: expected something else, found"):
        Lexer(text)
