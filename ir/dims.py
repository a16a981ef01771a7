"""Dimensions: an `int`, or a `Sym`, an interned handle on a canonical integer expression.

Two symbolic dimensions are equal exactly when they are the same object. sympy does the algebra and is imported only
when some is left after equal factors have cancelled; it never sees text from a file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache, reduce
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from sympy import Expr

__all__ = ["Dim", "DimError", "Sym", "at_most", "bind", "dim_text", "divide", "parse_dim", "product", "symbols_of"]


class DimError(ValueError):
    """A dimension that cannot be read, computed, or bound."""


class Sym:
    """A symbolic dimension, known by its canonical text; every symbol in it stands for an integer >= 0."""

    __slots__ = ("_expr", "text")
    _interned: ClassVar[dict[str, Sym]] = {}

    text: str
    _expr: Expr | None

    def __new__(cls, name: str) -> Sym:
        """The plain symbol called `name`; compound expressions come from arithmetic or from `parse_dim`."""
        if not _NAME.fullmatch(name) or name in _FUNCTIONS:
            raise DimError(f"{name!r} cannot name a dimension")
        return cls._intern(name, None)

    @classmethod
    def _intern(cls, text: str, expr: Expr | None) -> Sym:
        found = cls._interned.get(text)
        if found is None:
            found = object.__new__(cls)
            found.text, found._expr = text, expr
            cls._interned[text] = found
        return found

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return parse_dim, (self.text,)

    @property
    def is_plain(self) -> bool:
        """Whether this is one symbol, not a compound expression."""
        return self._expr is None

    @property
    def expr(self) -> Expr:
        """The sympy expression (imports sympy)."""
        if self._expr is None:
            import sympy

            return sympy.Symbol(self.text, integer=True, nonnegative=True)
        return self._expr

    def __repr__(self) -> str:
        return self.text

    def __add__(self, other: Dim) -> Dim:
        return self if other == 0 else _arithmetic("+", self, other)

    def __sub__(self, other: Dim) -> Dim:
        return self if other == 0 else 0 if other is self else _arithmetic("-", self, other)

    def __rsub__(self, other: int) -> Dim:
        return _arithmetic("-", other, self)

    def __mul__(self, other: Dim) -> Dim:
        return self if other == 1 else _arithmetic("*", self, other)

    def __floordiv__(self, other: Dim) -> Dim:
        return self if other == 1 else _arithmetic("//", self, other)

    def __rfloordiv__(self, other: int) -> Dim:
        return _arithmetic("//", other, self)

    def __neg__(self) -> Dim:
        return _arithmetic("*", self, -1)

    __radd__, __rmul__ = __add__, __mul__


Dim = int | Sym

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST = 1000  # characters of an expression: a short text with a few powers could ask for millions of terms
_HIGHEST = 16  # power of an expression
_DIGITS = 20  # of a number in an expression
_POWER = re.compile(r"\*\*(\d+)", re.ASCII)
_LONG_NUMBER = re.compile(rf"\d{{{_DIGITS + 1},}}", re.ASCII)
_FUNCTIONS = ("floordiv", "Max", "Min")  # as sympy prints them
_WORDS = ("true", "false", "none", "nan", "inf")  # mean something else where an attribute is written


def _expr(d: Dim) -> Expr:
    import sympy

    return sympy.Integer(d) if isinstance(d, int) else d.expr


def _canonical(expr: Expr) -> Dim:
    import sympy

    expr = sympy.expand(expr)
    for _ in range(8 if expr.has(sympy.Min, sympy.Max) else 0):  # what sympy makes of nested ones may simplify again
        before, expr = expr, sympy.expand(expr.replace(_is_choice, lambda e: e.func(*e.args)))
        if expr == before:
            break
    if expr.is_Integer:
        return int(expr)
    if expr.is_Symbol:
        return Sym(str(expr))
    text = str(expr)
    if len(text) > _LONGEST or any(int(m[1]) > _HIGHEST for m in _POWER.finditer(text)) or _LONG_NUMBER.search(text):
        raise DimError(f"dimension {text[:40]!r}… is too long, of too high a power, or of too large numbers")
    return Sym._intern(text, expr)


def _is_choice(e: Expr) -> bool:
    return type(e).__name__ in ("Min", "Max")


_TERMS = 1024  # of a product, before equal ones are joined
_CHOICES = 12  # Min and Max in what is computed with: sympy compares the arguments of each with each


@cache
def _arithmetic(operator: str, a: Dim, b: Dim) -> Dim:
    import sympy

    _require_few_choices(a, b)
    x, y = _expr(a), _expr(b)
    if operator == "*" and len(sympy.Add.make_args(x)) * len(sympy.Add.make_args(y)) > _TERMS:
        raise DimError(f"the product of {dim_text(a)[:40]!r}… and {dim_text(b)[:40]!r}… is too long")
    match operator:
        case "+":
            return _canonical(x + y)
        case "-":
            return _canonical(x - y)
        case "*":
            return _canonical(x * y)
        case "//":
            if b == 0:
                raise DimError(f"{dim_text(a)} divided by zero")
            if isinstance(a, int) and isinstance(b, int):
                return a // b
            exact = divide((a,), (b,))
            return _canonical(_floordiv()(x, y)) if exact is None else exact
    raise AssertionError(operator)


@cache
def _choice(function: str, dims: tuple[Dim, ...]) -> Dim:
    """The "Min" or the "Max" of several, made at once: sympy would factor some of them, made one by one."""
    import sympy

    _require_few_choices(*dims)
    return _canonical(getattr(sympy, function)(*map(_expr, dims)))


def _require_few_choices(*dims: Dim) -> None:
    if sum(d.text.count("Min(") + d.text.count("Max(") for d in dims if isinstance(d, Sym)) > _CHOICES:
        raise DimError(f"too many choices between sizes, in {dim_text(dims[0])[:40]!r}…")


@cache
def _floordiv() -> type[Expr]:
    """floor(a / b) as a function of two arguments: sympy's own floor prints its quotient as a sum of fractions."""
    import sympy

    def evaluate(cls: type, a: Expr, b: Expr) -> Expr | None:
        if b == 0:
            raise DimError(f"{a} divided by zero")
        return a // b if a.is_Integer and b.is_Integer else None

    def nonnegative(self: Expr) -> bool | None:
        return True if all(a.is_nonnegative for a in self.args) else None

    body = {"eval": classmethod(evaluate), "is_integer": True, "_eval_is_nonnegative": nonnegative}
    return type("floordiv", (sympy.Function,), body)


def _quotient(a: Dim, b: Dim) -> Dim:
    if b == 0:
        raise DimError(f"{dim_text(a)} divided by zero")
    return a // b


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger of two dimensions."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    return a if a is b else _choice("Max", (a, b))


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller of two dimensions."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    return a if a is b else _choice("Min", (a, b))


def at_most(a: Dim, b: Dim) -> bool | None:
    """Whether a <= b: at every size (True), at none (False), or unproved (None)."""
    if isinstance(a, int) and isinstance(b, int):
        return a <= b
    if a is b:
        return True
    if isinstance(b, Sym) and b.is_plain and isinstance(a, int):
        return True if a <= 0 else None
    if isinstance(a, Sym) and a.is_plain and isinstance(b, int):
        return False if b < 0 else None
    return None if is_plain(a) and is_plain(b) else _at_most(a, b)


def is_plain(d: Dim) -> bool:
    """Whether it is a number or one symbol: algebra says no more of it."""
    return isinstance(d, int) or d.is_plain


_CASES = 64  # of one comparison that are looked at: a short text could hold millions


@cache
def _at_most(a: Dim, b: Dim) -> bool | None:
    import sympy

    difference = _expr(b) - _expr(a)
    cases = math.prod(len(e.args) for e in difference.atoms(sympy.Min, sympy.Max))
    return _nonnegative(difference) if cases <= _CASES else None


def _nonnegative(e: Expr) -> bool | None:
    """The sign of an expression, where it is that of all the choices that its Min and Max leave."""
    import sympy

    e = sympy.expand(e)
    if e.is_nonnegative or e.is_negative:
        return bool(e.is_nonnegative)
    for term in sympy.Add.make_args(e):
        factor, choice = term.as_coeff_Mul()
        if _is_choice(choice):
            signs = [_nonnegative(e - term + factor * x) for x in choice.args]
            decisive = isinstance(choice, sympy.Max) == (factor > 0)  # it is the largest of them: one is enough
            return decisive if decisive in signs else signs[0] if len(set(signs)) == 1 else None
    return None


def choices(d: Dim, function: str) -> tuple[Dim, ...]:
    """What `d` is the "Min" or the "Max" of; none where it is no such thing."""
    if isinstance(d, int) or type(d.expr).__name__ != function:
        return ()
    return tuple(map(_canonical, d.expr.args))


def operation(d: Sym) -> tuple[str, tuple[Dim, ...]]:
    """What a compound dimension is made by and of: ("add", …), ("mul", …), ("minimum", …), ("maximum", …), floordiv."""
    names = {"Add": "add", "Mul": "mul", "Pow": "mul", "Min": "minimum", "Max": "maximum", "floordiv": "floordiv"}
    kind, args = type(d.expr).__name__, d.expr.args
    if kind == "Pow":
        args = (args[0],) * int(args[1])
    return names[kind], tuple(map(_canonical, args))


@cache
def product(dims: tuple[Dim, ...]) -> Dim:
    """The product of `dims`; 1 for none."""
    number: int = 1
    symbolic: Dim = 1
    for d in dims:
        if isinstance(d, int):
            number *= d
        else:
            symbolic = d if symbolic == 1 else symbolic * d
    return symbolic * number


def divide(numerator: tuple[Dim, ...], denominator: tuple[Dim, ...]) -> Dim | None:
    """`product(numerator) / product(denominator)` where it is provably an integer, else None.

    Equal factors cancel first, so that [B, S, 8, 32] against [B, S, 256] needs no algebra.
    """
    top, bottom = list(numerator), list(denominator)
    for d in denominator:
        if d in top:
            top.remove(d)
            bottom.remove(d)
    a, b = product(tuple(top)), product(tuple(bottom))
    if isinstance(b, int):
        if b == 0:
            return None
        if isinstance(a, int):
            return a // b if a % b == 0 else None
        numbers = product(tuple(d for d in top if isinstance(d, int)))
        if isinstance(numbers, int) and numbers % b == 0:
            return product((*(d for d in top if not isinstance(d, int)), numbers // b))
    return _divide(a, b)


@cache
def _divide(a: Dim, b: Dim) -> Dim | None:
    import sympy

    ratio = sympy.cancel(_expr(a) / _expr(b))
    if not ratio.is_polynomial() or not all(c.is_Integer for c in sympy.expand(ratio).as_coefficients_dict().values()):
        return None
    return _canonical(ratio)


@cache
def symbols_of(d: Dim) -> tuple[str, ...]:
    """The names of the symbols in `d`, sorted."""
    if isinstance(d, int):
        return ()
    return (d.text,) if d.is_plain else tuple(sorted(str(s) for s in d.expr.free_symbols))


def bind(d: Dim, sizes: Mapping[str, Dim]) -> Dim:
    """`d` with the symbols named in `sizes` replaced; the others stay."""
    if isinstance(d, int):
        return d
    if d.is_plain:
        return sizes.get(d.text, d)
    return _bind(d, tuple((n, sizes[n]) for n in symbols_of(d) if n in sizes))


@cache
def _bind(d: Sym, sizes: tuple[tuple[str, Dim], ...]) -> Dim:
    return _canonical(d.expr.subs({Sym(name).expr: _expr(size) for name, size in sizes}, simultaneous=True))


def dim_text(d: Dim) -> str:
    """The text form: `128`, `S`, `{2*S + 1}`."""
    bare = isinstance(d, int) or (d.is_plain and d.text not in _WORDS)
    return str(d) if bare else "{" + str(d) + "}"


_TOKEN = re.compile(r"\s*(?:([0-9]+)|([A-Za-z_][A-Za-z0-9_]*)|(\*\*|[-+*(),]))")


def parse_dim(text: str) -> Dim:
    """Read `dim_text`'s form, with or without the braces. A parser of our own: sympy's evaluates its input.

    Raises DimError.
    """
    text = text.strip()
    body = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    tokens: list[str] = []
    at = 0
    body = body.rstrip()
    while at < len(body):
        m = _TOKEN.match(body, at)
        if m is None:
            raise DimError(f"cannot read dimension {text!r} at {body[at:]!r}")
        tokens.append(m[m.lastindex or 0])
        at = m.end()
    if len(tokens) > 512 or tokens.count("(") > 64:
        raise DimError(f"dimension {text[:40]!r}… is too long")
    reader = _DimReader(tokens, text)
    value = reader.sum()
    if reader.at != len(tokens):
        raise DimError(f"cannot read dimension {text!r}")
    return value


class _DimReader:
    """Recursive descent: sum = product (+|- product)*, product = factor (* factor)*, factor = atom [** int]."""

    def __init__(self, tokens: list[str], text: str) -> None:
        self.tokens, self.text, self.at = tokens, text, 0

    def next(self) -> str:
        if self.at >= len(self.tokens):
            raise DimError(f"dimension {self.text!r} ends early")
        self.at += 1
        return self.tokens[self.at - 1]

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def expect(self, token: str) -> None:
        if self.next() != token:
            raise DimError(f"dimension {self.text!r}: expected {token!r}")

    def sum(self) -> Dim:
        value = self.product()
        while self.peek() in ("+", "-"):
            value = value + self.product() if self.next() == "+" else value - self.product()
        return value

    def product(self) -> Dim:
        if self.peek() == "-":
            self.next()
            return -self.product()
        value = self.factor()
        while self.peek() == "*":
            self.next()
            value = self.bounded(value * self.factor())
        return value

    def bounded(self, value: Dim) -> Dim:
        if len(value.text if isinstance(value, Sym) else hex(value)) > _LONGEST:
            raise DimError(f"dimension {self.text[:40]!r}… is too long")
        return value

    def factor(self) -> Dim:
        value = self.atom()
        if self.peek() == "**":
            self.next()
            power = self.next()
            if not power.isdigit() or len(power) > 2 or int(power) > _HIGHEST:
                raise DimError(f"dimension {self.text!r}: bad exponent {power[:40]!r}")
            result: Dim = 1
            for _ in range(int(power)):
                result = self.bounded(value * result)
            return result
        return value

    def atom(self) -> Dim:
        token = self.next()
        if token == "(":
            value = self.sum()
            self.expect(")")
            return value
        if token.isdigit():
            if len(token) > _DIGITS:
                raise DimError(f"dimension {self.text[:40]!r}…: a number of {len(token)} digits")
            return int(token)
        if token in _FUNCTIONS:
            self.expect("(")
            values = [self.sum()]
            while self.peek() == ",":
                self.next()
                values.append(self.sum())
            self.expect(")")
            return reduce(_quotient, values) if token == "floordiv" else _choice(token, tuple(values))
        return Sym(token)
