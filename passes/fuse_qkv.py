"""fuse-qkv: the three projections of a self-attention in one product."""

from __future__ import annotations

from burnish.ir.builder import Ops
from burnish.ir.graph import Node, Value
from burnish.ir.ops.attention import Attention
from burnish.passes.engine import Pattern, RewritePass, Rule


class FuseQueryKeyValue(Rule):
    """q, k, v = linear(x, wq), linear(x, wk), linear(x, wv) -> split(linear(x, concat(wq, wk, wv)))"""

    exactness = "rounding"
    example = {"x": "f32[2, 5, 8]", "wq": "@f32[8, 8]", "wk": "@f32[4, 8]", "wv": "@f32[4, 8]"}
    example |= {"bq": "@f32[8]", "bk": "@f32[4]", "bv": "@f32[4]"}

    def match(
        self,
        op: Ops,
        x: Value,
        wq: Value,
        wk: Value,
        wv: Value,
        bq: Value | None = None,
        bk: Value | None = None,
        bv: Value | None = None,
    ) -> Pattern:
        return op.linear(x, wq, bq), op.linear(x, wk, bk), op.linear(x, wv, bv)

    def where(self, outs: list[Value], wq: Value, wk: Value, wv: Value, bq: Value, bk: Value, bv: Value) -> str | None:
        places = [_attention_operand(v) for v in outs]
        if [name for _, name in places] != ["q", "k", "v"] or len({node for node, _ in places}) > 1:
            return ""  # not the query, key and value of one attention
        return cannot_join([wq, wk, wv], [bq, bk, bv])

    def build(
        self, op: Ops, x: Value, wq: Value, wk: Value, wv: Value, bq: Value | None, bk: Value | None, bv: Value | None
    ) -> Value:
        bias = None if bq is None else op.concat(bq, bk, bv, axis=0)
        y = op.linear(x, op.concat(wq, wk, wv, axis=0), bias)
        return op.split(y, axis=-1, sizes=(wq.shape[0], wk.shape[0], wv.shape[0]))

    def around(self, op: Ops, q: Value, k: Value, v: Value) -> Value:
        heads = [op.reshape(y, shape=(*y.shape[:2], -1, 4)) for y in (q, k, v)]
        return op.attention(*heads, causal=True, scale=0.5)


def cannot_join(weights: list[Value], biases: list[Value | None]) -> str | None:
    """Why products of one operand cannot be one product with their weights' rows one after the other, or None."""
    if not all(w.is_weight for w in weights):
        return "they are not all weights"
    if len({w.dtype for w in weights}) > 1:
        return f"they are stored as {', '.join(str(w.type) for w in weights)}"
    return "not all of them have a bias" if len({b is None for b in biases}) > 1 else None


def _attention_operand(value: Value) -> tuple[Node | None, str]:
    """The attention that a projection feeds, alone, by way of reshapes, rotations and norms, and as which operand."""
    for _ in range(16):
        if len(value.uses) != 1:
            break
        ((node, name),) = value.readings
        if isinstance(node.op, Attention):
            return node, name
        if name != node.op.operand(0) or len(node.outputs) != 1 or node.op.name == "linear":
            break
        value = node.out
    return None, ""


class FuseQkv(RewritePass):
    """The query, key and value projections of a self-attention as one linear."""

    rules = (FuseQueryKeyValue,)
