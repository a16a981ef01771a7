"""recover-norm: norms found in their parts."""

from __future__ import annotations

import numpy as np

from burnish.ir.builder import Ops
from burnish.ir.graph import Value
from burnish.ir.literal import number_text
from burnish.passes.engine import Const, Pattern, RewritePass, Rule


def _inverse_roots(op: Ops, x: Value) -> list[Value]:
    """1 / sqrt(x), as it may be written."""
    return [op.rsqrt(x), op.reciprocal(op.sqrt(x)), op.div(1.0, op.sqrt(x))]


def _why_not(x: Value, w: Value, eps: Value, out: Value) -> str | None:
    if x.type != out.type or w.shape != x.shape[-1:]:
        return f"{w.type} does not scale the last axis of {x.type}"
    return None if eps.type.elements == 1 else f"eps is {eps.type}"


def _shortest(eps: Value) -> float:
    """The shortest decimal that is this f32: what the source's author wrote."""
    assert eps.literal is not None
    return float(number_text(np.float32(eps.literal.reshape(())), "f32"))


class RmsNormFromParts(Rule):
    """mul(w, mul(x, rsqrt(add(mean(pow(x, 2)), eps)))) -> rms_norm(x, w, eps)"""

    exactness = "rounding"
    example = {"x": "f32[2, 5, 8]", "w": "@f32[8]", "eps": 1e-5}

    def match(self, op: Ops, x: Value, w: Value, eps: Const) -> Pattern:
        y = op.maybe_cast(x)
        means = [op.reduce_mean(square, axes=(-1,)) for square in (op.pow(y, 2.0), op.mul(y, y))]
        scales = [r for mean in means for r in _inverse_roots(op, op.add(mean, eps))]
        return [op.mul(w, op.maybe_cast(op.mul(y, scale))) for scale in scales]

    def where(self, x: Value, w: Value, eps: Value, out: Value) -> str | None:
        return _why_not(x, w, eps, out)

    def build(self, op: Ops, x: Value, w: Value, eps: Value) -> Value:
        return op.rms_norm(x, w, eps=_shortest(eps))


class LayerNormFromParts(Rule):
    """mul(mul(c, rsqrt(add(mean(pow(c, 2)), eps))), w), c = sub(x, mean(x)) -> layer_norm(x, w, eps)"""

    exactness = "rounding"
    example = {"x": "f32[2, 5, 8]", "w": "@f32[8]", "eps": 1e-5}

    def match(self, op: Ops, x: Value, w: Value, eps: Const) -> Pattern:
        c = op.sub(x, op.reduce_mean(x, axes=(-1,)))
        means = [op.reduce_mean(square, axes=(-1,)) for square in (op.pow(c, 2.0), op.mul(c, c))]
        variances = [op.add(mean, eps) for mean in means]
        scaled = [op.mul(c, r) for v in variances for r in _inverse_roots(op, v)]
        scaled += [op.div(c, op.sqrt(v)) for v in variances]
        return [op.mul(y, w) for y in scaled]

    def where(self, x: Value, w: Value, eps: Value, out: Value) -> str | None:
        return _why_not(x, w, eps, out)

    def build(self, op: Ops, x: Value, w: Value, eps: Value) -> Value:
        return op.layer_norm(x, w, eps=_shortest(eps))


class LayerNormBias(Rule):
    """add(layer_norm(x, w), b) -> layer_norm(x, w, b)"""

    exactness = "rounding"
    example = {"x": "f32[2, 5, 8]", "w": "@f32[8]", "b": "@f32[8]", "eps": 1e-5}

    def match(self, op: Ops, x: Value, w: Value, b: Value, *, eps: float) -> Pattern:
        return op.add(op.layer_norm(x, w, eps=eps), b)

    def where(self, w: Value, b: Value) -> str | None:
        return None if b.is_weight and b.shape == w.shape else ""

    def build(self, op: Ops, x: Value, w: Value, b: Value, eps: float) -> Value:
        return op.layer_norm(x, w, b, eps=eps)


class RecoverNorm(RewritePass):
    """Root mean square and layer norms written out become one op."""

    rules = (RmsNormFromParts, LayerNormFromParts, LayerNormBias)
