"""fuse-linear: products with a weight, and their biases, as linear."""

from __future__ import annotations

from burnish.ir.builder import Ops
from burnish.ir.graph import Value
from burnish.passes.engine import Pattern, RewritePass, Rule


class MatmulToLinear(Rule):
    """matmul(x, w), w a weight matrix -> linear(x, transpose(w))"""

    exactness = "rounding"
    example = {"x": "f32[2, 3]", "w": "@f32[3, 4]"}

    def match(self, op: Ops, x: Value, w: Value) -> Pattern:
        return op.matmul(x, w)

    def where(self, x: Value, w: Value) -> str | None:
        return None if w.is_weight and w.type.rank == 2 else f"the right side, {w.type}, is not a weight matrix"

    def build(self, op: Ops, x: Value, w: Value) -> Value:
        return op.linear(x, op.transpose(w, perm=(1, 0)))


class LinearBias(Rule):
    """add(linear(x, w), b), b a weight -> linear(x, w, b)"""

    exactness = "rounding"
    example = {"x": "f32[2, 3]", "w": "@f32[4, 3]", "b": "@f32[4]"}

    def match(self, op: Ops, x: Value, w: Value, b: Value) -> Pattern:
        return op.add(op.linear(x, w), b)

    def where(self, w: Value, b: Value) -> str | None:
        return None if b.is_weight and b.shape == w.shape[:1] else f"{b.type} is not a bias for {w.type}"

    def build(self, op: Ops, x: Value, w: Value, b: Value) -> Value:
        return op.linear(x, w, b)


class FuseLinear(RewritePass):
    """matmul and add with weights become linear."""

    rules = (MatmulToLinear, LinearBias)
