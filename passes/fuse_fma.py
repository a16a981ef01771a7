"""fuse-fma: a multiplication and an addition in one."""

from __future__ import annotations

from burnish.ir.builder import Ops
from burnish.ir.graph import Value
from burnish.passes.engine import Pattern, RewritePass, Rule


class MulAddToFma(Rule):
    """add(mul(a, b), c) -> fma(a, b, c)"""

    exactness = "rounding"
    example = {"a": "f32[2, 3]", "b": "f32[3]", "c": "f32[2, 3]"}

    def match(self, op: Ops, a: Value, b: Value, c: Value) -> Pattern:
        return op.add(op.mul(a, b), c)

    def where(self, out: Value) -> str | None:
        return None if out.type.is_float else f"{out.type} is not a float"

    def build(self, op: Ops, a: Value, b: Value, c: Value) -> Value:
        return op.fma(a, b, c)


class FuseFma(RewritePass):
    """a * b + c, rounded once."""

    rules = (MulAddToFma,)
