"""The law of rules, held by every rule of every pass; and rules that break it are found out."""

import dataclasses
import re
from pathlib import Path

import pytest

from burnish.ir import Ops, Value
from burnish.passes.engine import PASSES, RULES, Const, Pattern, Rule
from burnish.testing import check_rule

GOLDEN = Path(__file__).parent.parent / "golden"
RULES_OF_OURS = [r for r in RULES.values() if r.__module__.startswith("burnish.passes.")]
PASSES_OF_OURS = [p for p in PASSES.values() if p.__module__.startswith("burnish.passes.")]
every_rule = pytest.mark.parametrize("rule", RULES_OF_OURS, ids=lambda r: r.__name__)
pytestmark = pytest.mark.usefixtures("registries")


@every_rule
def test_a_rule_keeps_its_word_on_an_instance_of_its_own_pattern(rule: type[Rule]) -> None:
    check_rule(rule)


@every_rule
def test_a_rule_is_applied_in_a_golden_file(rule: type[Rule]) -> None:
    applied = re.compile(rf"^# .*/{rule.__name__} at .*: applied$", re.MULTILINE)
    files = sorted(GOLDEN.glob("*/*.after.graph"))
    assert any(applied.search(file.read_text("utf-8")) for file in files), f"not in any of {len(files)} golden files"


@pytest.mark.parametrize("pass_", PASSES_OF_OURS, ids=lambda p: p.name)
def test_a_pass_says_what_it_does(pass_: type) -> None:
    assert dataclasses.is_dataclass(pass_)
    assert pass_.__doc__
    assert not pass_.__doc__.startswith(f"{pass_.__name__}("), "it is the one that dataclasses make up"


# ----------------------------------------------------------------------------------------------------- the law can fail


class Right(Rule):
    """sub(mul(a, b), c) -> add(neg(c), mul(b, a))"""

    example = {"a": "f32[2, 3]", "b": "f32[3]", "c": "f32[2, 3]"}

    def match(self, op: Ops, a: Value, b: Value, c: Value) -> Pattern:
        return op.sub(op.mul(a, b), c)

    def build(self, op: Ops, a: Value, b: Value, c: Value) -> Value:
        return op.add(op.neg(c), op.mul(b, a))


def like_right(docstring: str = "a -> b", **changes: object) -> type[Rule]:
    return type("_Wrong", (Right,), {"__doc__": docstring, **changes})


def test_a_right_rule_passes() -> None:
    check_rule(Right)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (like_right(build=lambda self, op, a, b, c: op.sub(op.mul(a, b), c)), "fits what it makes"),
        (like_right(build=lambda self, op, a, b, c: op.unsqueeze(a, axes=(0,))), "not applied .* does not stand for"),
        (like_right(docstring="adds up"), "its docstring must be of the form"),
        (like_right(exactness="perfect"), "exactness 'perfect'"),
        (like_right(example={"a": "f32[2]", "b": "f32[2]"}), "its example says nothing of c"),
        (like_right(example={**Right.example, "b": "f32[4]"}), "its example makes no instance: mul"),
        (like_right(where=lambda self, a: f"{a.type} is not mine"), r"is not applied .*: f32\[2, 3\] is not mine"),
        (
            like_right(build=lambda self, op, a, b, c: op.add(op.mul(a, a), op.neg(c))),
            "is declared exact, but is off by",
        ),
        (like_right(build=lambda self, op, a, b, c: op.fma(a, b, op.neg(c))), "is declared exact, but is off by"),
        (
            like_right(exactness="rounding", build=lambda self, op, a, b, c: op.add(op.mul(a, b), op.mul(c, -1.00001))),
            "at most .* is rounding",
        ),
        (
            like_right(
                exactness="lossy", build=lambda self, op, a, b, c: op.log(op.neg(op.abs(op.mul(a, op.sub(b, c)))))
            ),
            "is not finite",
        ),
    ],
)
def test_a_rule_that_breaks_its_word_is_found_out(rule: type[Rule], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_rule(rule)


@pytest.mark.parametrize(
    ("type", "before", "after"),
    [
        ("f32[8]", lambda op, x: op.maximum(x, op.neg(x)), lambda op, x: op.abs(op.add(x, 0.0))),
        ("f32[8]", lambda op, x: op.mul(x, 1.0), lambda op, x: op.add(x, 0.0)),  # -0.0
        ("f32[8]", lambda op, x: op.sub(op.neg(x), op.neg(x)), lambda op, x: op.mul(x, 0.0)),  # of a negative number
        ("f32[8]", lambda op, x: op.relu(op.abs(x)), lambda op, x: op.maximum(op.abs(x), op.mul(x, 0.0))),
        ("i32[8]", lambda op, x: op.mod(x, 4), lambda op, x: op.sub(x, op.mul(op.div(x, 4), 4))),  # rounds to 0
        ("i32[8]", lambda op, x: op.cast(op.cast(x, to="i8"), to="i32"), lambda op, x: op.add(x, 0)),  # too small
        ("i32[8]", lambda op, x: op.abs(x), lambda op, x: op.add(x, 0)),
    ],
)
def test_an_exact_rule_is_tried_on_numbers_that_are_seldom_met(type: str, before: object, after: object) -> None:
    class Kind(Rule):
        """f(x) -> what is the same of the numbers 0 to 7, or of most"""

        example = {"x": type}

        def match(self, op: Ops, x: Value) -> Pattern:
            return before(op, x)

        def build(self, op: Ops, x: Value) -> Value:
            return after(op, x)

    with pytest.raises(AssertionError, match="is declared exact, but is "):
        check_rule(Kind)


def test_every_alternative_is_tried() -> None:
    class SecondIsWrong(Rule):
        """sin(neg(x)) -> neg(sin(x)), and cos(neg(x)) -> cos(x) taken for -cos(x)"""

        example = {"x": "f32[4]"}

        def match(self, op: Ops, x: Value) -> Pattern:
            return [op.sin(op.neg(x)), op.cos(op.neg(x))]

        def build(self, op: Ops, x: Value, out: Value) -> Value:
            assert out.node is not None
            return op.neg(op.emit(out.node.op, [x]))

    with pytest.raises(AssertionError, match="alternative 1: y0: is declared exact"):
        check_rule(SecondIsWrong)


def test_it_is_tried_without_the_optional_operands_too() -> None:
    class BiasForgotten(Rule):
        """relu(linear(x, w, b)) -> maximum(linear(x, w, b), 0), but without a bias times 2"""

        example = {"x": "f32[2, 3]", "w": "@f32[4, 3]", "b": "@f32[4]"}

        def match(self, op: Ops, x: Value, w: Value, b: Value | None = None) -> Pattern:
            return op.relu(op.linear(x, w, b))

        def build(self, op: Ops, x: Value, w: Value, b: Value | None) -> Value:
            y = op.linear(x, w, b)
            return op.maximum(y if b is not None else op.mul(y, 2.0), 0.0)

    with pytest.raises(AssertionError, match="without b: y0"):
        check_rule(BiasForgotten)


def test_constants_weights_and_casts_in_an_example() -> None:
    class Many(Rule):
        """mul(cast(x), c) + w -> the same in another order; c any constant"""

        exactness = "rounding"
        example = {"x": "f32[B, 8]", "w": "@f32[8]", "c": [0.5] * 8}

        def match(self, op: Ops, x: Value, w: Value, c: Const) -> Pattern:
            return op.add(op.mul(op.maybe_cast(x), c), w)

        def build(self, op: Ops, x: Value, w: Value, c: Value) -> Value:
            assert w.is_weight
            assert c.literal is not None
            return op.fma(x, c, w)

    check_rule(Many)


def test_a_quantized_example() -> None:
    class Unquantize(Rule):
        """linear(x, w) with w quantized -> linear(x, dequantize(w))"""

        exactness = "rounding"
        example = {"x": "f32[2, 64]", "w": "@q4_0[8, 64]"}

        def match(self, op: Ops, x: Value, w: Value) -> Pattern:
            return op.linear(x, w)

        def where(self, w: Value) -> str | None:
            return None if w.type.format else ""

        def build(self, op: Ops, x: Value, w: Value) -> Value:
            return op.linear(x, op.dequantize(w))

    check_rule(Unquantize)
