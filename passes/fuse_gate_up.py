"""fuse-gate-up: the two projections into a gated MLP in one product."""

from __future__ import annotations

from burnish.ir.builder import Ops
from burnish.ir.graph import Value
from burnish.passes.engine import Pattern, RewritePass, Rule
from burnish.passes.fuse_qkv import cannot_join


class FuseGateAndUp(Rule):
    """mul(act(linear(x, wg)), linear(x, wu)) -> g, u = split(linear(x, concat(wg, wu))); mul(act(g), u)"""

    exactness = "rounding"
    example = {"x": "f32[2, 5, 8]", "wg": "@f32[6, 8]", "wu": "@f32[6, 8]", "approximate": "tanh"}
    example |= {"bg": "@f32[6]", "bu": "@f32[6]"}

    def match(
        self,
        op: Ops,
        x: Value,
        wg: Value,
        wu: Value,
        bg: Value | None = None,
        bu: Value | None = None,
        *,
        approximate: str,
    ) -> Pattern:
        gate, up = op.linear(x, wg, bg), op.linear(x, wu, bu)
        return [op.mul(op.silu(gate), up), op.mul(op.gelu(gate, approximate=approximate), up)]

    def where(self, wg: Value, wu: Value, bg: Value | None, bu: Value | None) -> str | None:
        return cannot_join([wg, wu], [bg, bu])

    def build(self, op: Ops, x: Value, wg: Value, wu: Value, bg: Value | None, bu: Value | None, out: Value) -> Value:
        bias = None if bg is None else op.concat(bg, bu, axis=0)
        y = op.linear(x, op.concat(wg, wu, axis=0), bias)
        gate, up = op.split(y, axis=-1, sizes=(wg.shape[0], wu.shape[0]))
        assert out.node is not None
        activation = next(v.op for v in out.node.operands if v.op is not None and v.op.name in ("silu", "gelu"))
        return op.mul(op.emit(activation, [gate]), up)


class FuseGateUp(RewritePass):
    """The gate and up projections of an MLP as one linear."""

    rules = (FuseGateAndUp,)
