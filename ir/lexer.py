"""The tokens of the text form, one after the other: see `text.py` for its grammar."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NoReturn, TypeVar

__all__ = ["Lexer", "TextError"]

_NUMBERED = re.compile(r"(?:\d+\.){0,2}\d+", re.ASCII)
_TOKEN = re.compile(
    r"(?u:\s*(?:#[^\n]*\s*)*)"
    r'(?:(?P<string>"(?:[^"\\\n]|\\.)*")'
    r'|(?P<ref>[%@](?:"(?:[^"\\\n]|\\.)*"|[\w./:-]*\w))'
    r"|(?P<number>-?(?:inf\b|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?))"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<mark><-|[(){}\[\],=:.])"
    r"|(?P<end>\Z)|(?P<other>))",
    re.ASCII,
)
T = TypeVar("T")


class TextError(ValueError):
    """Text that is not a module, with the line where it stops being one."""


class Lexer:
    """Text whose tokens are read as they are needed: `kind` and `token` are the next one, which begins at `start`."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.kind, self.token, self.start = "", "", 0
        self.advance()

    def advance(self) -> None:
        """Read the next token. Raises TextError where there is none."""
        m = _TOKEN.match(self.text, self.at)
        assert m is not None and m.lastgroup is not None  # the last alternative is nothing
        self.kind, self.start, self.at = m.lastgroup, m.start(m.lastgroup), m.end()
        self.token = m[self.kind]
        if self.kind == "end":
            self.token = "the end"
        elif self.kind == "other":
            self.token = self.text[self.start]
            self.fail("something else")

    def error(self, message: str) -> TextError:
        """That something is wrong in the line of the next token."""
        return TextError(f"line {self.text.count(chr(10), 0, self.start) + 1}: {message}")

    def fail(self, wanted: str) -> NoReturn:
        """Raise TextError: the next token is not what is wanted."""
        raise self.error(f"expected {wanted}, found {self.token[:60]}")

    def is_at(self, token: str) -> bool:
        """Whether the next token is that mark or word."""
        return self.token == token and self.kind in ("mark", "name")

    def maybe(self, token: str) -> bool:
        """Whether it is; then it is passed over."""
        if self.is_at(token):
            self.advance()
            return True
        return False

    def expect(self, token: str) -> None:
        """Pass over that mark or word. Raises TextError."""
        if not self.maybe(token):
            self.fail(f"'{token}'")

    def take(self, kind: str, what: str = "") -> str:
        """A token of a kind, which an error calls `what`. Raises TextError."""
        if self.kind != kind:
            self.fail(what or f"a {kind}")
        token = self.token
        self.advance()
        return token

    def string(self) -> str:
        """What a string says. Raises TextError."""
        value = self.unquoted(self.token) if self.kind == "string" else self.fail("a string")
        self.advance()
        return value

    def unquoted(self, token: str) -> str:
        """What a token with quotes says. Raises TextError."""
        try:
            value = str(json.loads(token))
            value.encode()  # half of a surrogate pair cannot be written again
        except ValueError:
            self.fail("a string in JSON's form")
        return value

    def name(self) -> str:
        """A word, or a string. Raises TextError."""
        return self.string() if self.kind == "string" else self.take("name")

    def ref(self) -> tuple[str, str, bool]:
        """(sigil, name, whether it is a number that the printer gave): `%"0"` is a name, `%0` is none."""
        token = self.token if self.kind == "ref" else self.fail("a value")
        quoted = token[1] == '"'
        name = self.unquoted(token[1:]) if quoted else token[1:]
        self.advance()
        return token[0], name, not quoted and _NUMBERED.fullmatch(name) is not None

    def listed(self, item: Callable[[], T], close: str) -> list[T]:
        """Items with commas between them, up to `close`, which is passed over. Raises TextError."""
        items: list[T] = []
        while not self.maybe(close):
            items.append(item())
            if not self.is_at(close):
                self.expect(",")
        return items

    def integer(self) -> int:
        """An integer. Raises TextError."""
        try:
            value = int(self.token)  # refuses thousands of digits
        except ValueError:
            self.fail("an integer")
        self.advance()
        return value
