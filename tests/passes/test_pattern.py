"""What a pattern says, and where it fits."""

from collections.abc import Callable
from typing import Any

import pytest

from burnish.ir import Ops, Value, parse
from burnish.passes.pattern import Const, Match, Pattern, trace

TEXT = """module {{
  weights {{
    @w: f32[4]
  }}
  graph forward(%a: f32[4], %b: f32[4], %c: f32[4]) {{
{}
  }}
}}"""


def matches(match: Callable[..., Pattern], *statements: str) -> list[Match]:
    """Every way in which a pattern fits into a graph of `name = op(…)` statements."""
    lines = [f"    %{s.split(' = ')[0]}: f32[4] = {s.split(' = ')[1]}" for s in statements]
    last = statements[-1].split(" = ")[0]
    module = parse(TEXT.format("\n".join([*lines, f"    return y=%{last}"])))
    bound = match.__get__(object())
    return [m for n in module.graphs["forward"] for a in trace(bound) for m in a.matches(n)]


def names(match: Match) -> dict[str, Any]:
    """What the names of a match are bound to: an input's name, or the op that makes a value."""
    return {
        k: (v.name or (v.op.name if v.op is not None else "")) if isinstance(v, Value) else v
        for k, v in match.bindings.items()
    }


def mul_add(self: object, op: Ops, a: Value, b: Value, c: Value) -> Pattern:
    return op.add(op.mul(a, b), c)


def test_commutative_operands_are_tried_both_ways() -> None:
    (m,) = matches(mul_add, "p = mul(%a, %b)", "y = add(%c, %p)")
    assert names(m) == {"a": "a", "b": "b", "c": "c"}
    assert [n.op.name for n in m.nodes] == ["add", "mul"]
    assert [v.op.name for v in m.roots if v.op is not None] == ["add"]


def test_two_ways_to_fit_are_both_found() -> None:
    found = matches(mul_add, "p = mul(%a, %b)", "q = mul(%b, %c)", "y = add(%p, %q)")
    assert [names(m)["c"] for m in found] == ["mul", "mul"]
    assert found[0].bindings["c"] is not found[1].bindings["c"]


def test_one_name_is_one_value() -> None:
    def square(self: object, op: Ops, x: Value) -> Pattern:
        return op.mul(x, x)

    assert len(matches(square, "y = mul(%a, %a)")) == 1
    assert matches(square, "y = mul(%a, %b)") == []


def test_a_number_is_a_constant_of_that_value() -> None:
    def halve(self: object, op: Ops, x: Value) -> Pattern:
        return op.mul(x, 0.1)

    assert len(matches(halve, "y = mul(%a, f32(0.1))")) == 1  # 0.1 rounded to f32 is meant
    assert len(matches(halve, "y = mul(f32(0.1), %a)")) == 1
    assert matches(halve, "y = mul(%a, f32(0.2))") == []
    assert matches(halve, "y = mul(%a, %b)") == []
    assert matches(halve, "y = mul(%a, f32([0.1, 0.1, 0.1, 0.1]))") == []  # of another shape


def test_const_is_any_constant() -> None:
    def scaled(self: object, op: Ops, x: Value, c: Const) -> Pattern:
        return op.mul(x, c)

    (m,) = matches(scaled, "y = mul(f32(3.0), %a)")
    assert names(m) == {"x": "a", "c": "constant"}
    assert matches(scaled, "y = mul(%a, @w)") == []


def test_an_optional_operand_may_be_missing() -> None:
    def positions(self: object, op: Ops, ids: Value, past: Value | None = None) -> Pattern:
        return op.positions(ids, past)

    text = """module {{ graph forward(%ids: i32[2, 3], %past: i32[2]) {{
        %0: i32[2, 3] = positions(%ids{})
        return y=%0
    }} }}"""
    for argument, bound in ((", %past", "past"), ("", None)):
        (node,) = parse(text.format(argument)).graphs["forward"]
        (m,) = [m for a in trace(positions.__get__(object())) for m in a.matches(node)]
        assert names(m) == {"ids": "ids", "past": bound}


def test_casts_are_looked_through() -> None:
    def exp_neg(self: object, op: Ops, x: Value) -> Pattern:
        return op.exp(op.maybe_cast(op.neg(x)))

    for casts in ([], ['p = cast(%n, to="f32")'], ['q = cast(%n, to="f32")', 'p = cast(%q, to="f32")']):
        last = "p" if casts else "n"
        (m,) = matches(exp_neg, "n = neg(%a)", *casts, f"y = exp(%{last})")
        assert len(m.nodes) == 2 + len(casts)


def test_a_keyword_captures_an_attribute_and_the_rest_must_be_default() -> None:
    def gelu(self: object, op: Ops, x: Value, *, how: str) -> Pattern:
        return op.gelu(x, approximate=how)

    def plain(self: object, op: Ops, x: Value) -> Pattern:
        return op.gelu(x)

    (m,) = matches(gelu, 'y = gelu(%a, approximate="tanh")')
    assert names(m) == {"x": "a", "how": "tanh"}
    assert matches(plain, 'y = gelu(%a, approximate="tanh")') == []
    assert len(matches(plain, "y = gelu(%a)")) == 1


def test_one_attribute_name_is_one_value() -> None:
    def twice(self: object, op: Ops, x: Value, *, how: str) -> Pattern:
        return op.gelu(op.gelu(x, approximate=how), approximate=how)

    assert len(matches(twice, "p = gelu(%a)", "y = gelu(%p)")) == 1
    assert matches(twice, "p = gelu(%a)", 'y = gelu(%p, approximate="tanh")') == []


def test_alternatives() -> None:
    def either(self: object, op: Ops, x: Value) -> Pattern:
        return [op.exp(op.neg(x)), op.neg(op.exp(x))]

    assert len(matches(either, "p = neg(%a)", "y = exp(%p)")) == 1
    assert len(matches(either, "p = exp(%a)", "y = neg(%p)")) == 1


def test_several_roots_share_an_operand() -> None:
    def siblings(self: object, op: Ops, x: Value) -> Pattern:
        return op.exp(x), op.tanh(op.neg(x))

    statements = ["e = exp(%a)", "n = neg(%a)", "t = tanh(%n)", "y = add(%e, %t)"]
    (m,) = matches(siblings, *statements)
    assert [v.op.name for v in m.roots if v.op is not None] == ["exp", "tanh"]
    assert matches(siblings, *[s.replace("neg(%a)", "neg(%b)") for s in statements]) == []


def test_results_by_index_are_of_one_node() -> None:
    def swapped(self: object, op: Ops, x: Value, *, sizes: tuple[int, ...]) -> Pattern:
        p = op.split(x, axis=-1, sizes=sizes)
        return op.concat(p[1], p[0], axis=0)

    text = """module {{ graph forward(%a: f32[4], %b: f32[4]) {{
        %0, %1: f32[2], f32[2] = split(%a, axis=-1, sizes=[2, 2])
        %2, %3: f32[2], f32[2] = split(%b, axis=-1, sizes=[2, 2])
        %4: f32[4] = concat({}, axis=0)
        return y=%4, u=%0, v=%3
    }} }}"""
    for operands, fits in (("%1, %0", 1), ("%0, %1", 0), ("%3, %0", 0)):
        nodes = list(parse(text.format(operands)).graphs["forward"])
        found = [m for n in nodes for a in trace(swapped.__get__(object())) for m in a.matches(n)]
        assert len(found) == fits, operands


def test_all_operands_of_a_variadic_op() -> None:
    def joined(self: object, op: Ops, *xs: Value, axis: int) -> Pattern:
        return op.concat(*xs, axis=axis)

    text = "module { graph forward(%a: f32[2], %b: f32[3]) { %0: f32[5] = concat(%a, %b, axis=0) return y=%0 } }"
    (node,) = parse(text).graphs["forward"]
    (m,) = [m for a in trace(joined.__get__(object())) for m in a.matches(node)]
    assert [v.name for v in m.bindings["xs"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("match", "message"),
    [
        (lambda self, op, x: op.maybe_cast(op.neg(x)), "must begin with an op that is surely there"),
        (lambda self, op, x: x, "must begin with an op that is surely there"),
        (lambda self, op, x: op.reshape(x), r"must say \['shape'\]"),
        (lambda self, op, x: op.neg(x, axis=0), r"and not \['axis'\]"),
        (lambda self, op, x: op.negate(x), "there is no op 'negate'"),
        (lambda self, op, x: op.concat(*op.split(x, axis=0, sizes=(1, 1)), axis=0), "take its results by index"),
    ],
)
def test_a_pattern_that_makes_no_sense_is_refused(match: Callable[..., Pattern], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        trace(match.__get__(object()))
