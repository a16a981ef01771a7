"""recover-activation: silu and gelu found in their parts."""

from __future__ import annotations

import math

from burnish.ir.builder import Ops
from burnish.ir.graph import Value
from burnish.passes.engine import Pattern, RewritePass, Rule


class SiluFromParts(Rule):
    """mul(x, sigmoid(x)) -> silu(x)"""

    exactness = "rounding"
    example = {"x": "f32[2, 3]"}

    def match(self, op: Ops, x: Value) -> Pattern:
        return op.mul(x, op.sigmoid(x))

    def build(self, op: Ops, x: Value) -> Value:
        return op.silu(x)


def _halves(op: Ops, x: Value, y: Value) -> list[Value]:
    """0.5 * x * y, in the orders in which it is written."""
    return [op.mul(op.mul(x, 0.5), y), op.mul(op.mul(x, y), 0.5), op.mul(x, op.mul(y, 0.5))]


def _with_axes_of(op: Ops, y: Value, out: Value) -> Value:
    """y, with the unit axes in front that constants of one element, but of more axes, give a result."""
    added = out.type.rank - y.type.rank
    return op.unsqueeze(y, axes=tuple(range(added))) if added else y


class GeluFromErf(Rule):
    """mul(mul(x, 0.5), add(erf(div(x, √2)), 1)) -> gelu(x)"""

    exactness = "rounding"
    example = {"x": "f32[2, 3]"}

    def match(self, op: Ops, x: Value) -> Pattern:
        inner = [op.div(x, math.sqrt(2)), op.mul(x, math.sqrt(0.5))]
        return [y for i in inner for y in _halves(op, x, op.add(op.erf(i), 1.0))]

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        return _with_axes_of(op, op.gelu(x), out)


class GeluFromTanh(Rule):
    """mul(mul(x, 0.5), add(tanh(mul(add(x, mul(pow(x, 3), 0.044715)), √(2/π))), 1)) -> gelu(x, approximate="tanh")"""

    exactness = "rounding"
    example = {"x": "f32[2, 3]"}

    def match(self, op: Ops, x: Value) -> Pattern:
        cube = op.add(x, op.mul(op.pow(x, 3.0), 0.044715))
        return _halves(op, x, op.add(op.tanh(op.mul(cube, math.sqrt(2 / math.pi))), 1.0))

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        return _with_axes_of(op, op.gelu(x, approximate="tanh"), out)


class RecoverActivation(RewritePass):
    """Activations written out become one op."""

    rules = (SiluFromParts, GeluFromErf, GeluFromTanh)
