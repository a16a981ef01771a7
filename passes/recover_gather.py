"""recover-gather: table look-ups found among gathers."""

from __future__ import annotations

import numpy as np

from burnish.ir.builder import Ops
from burnish.ir.dims import Dim
from burnish.ir.graph import Value
from burnish.ir.types import NUMPY, holds
from burnish.passes.engine import Const, Pattern, RewritePass, Rule


class EmbeddingFromGather(Rule):
    """gather(w, ids), w a table of weights -> embedding(ids, w), of ids before a cast that holds every one of them"""

    example = {"w": "@f32[5, 8]", "ids": "i32[2, 3]", "to": "i64"}

    def match(self, op: Ops, w: Value, ids: Value, *, to: str) -> Pattern:
        return [op.gather(w, op.aside(op.cast(ids, to=to)), axis=0), op.gather(w, ids, axis=0)]

    def where(self, w: Value, ids: Value, out: Value) -> str | None:
        if not w.is_weight or w.type.rank != 2 or not w.type.is_float:
            return f"{w.type} is not a table of weights"
        if not ids.type.is_integer:
            return f"{ids.type} are not integers"
        read = out.node["indices"].dtype if out.node is not None else ids.dtype
        return None if holds(read, ids.dtype) else ""

    def build(self, op: Ops, w: Value, ids: Value, out: Value) -> Value:
        return op.embedding(_as_ids(op, ids), w, to=out.dtype)


class GatherOfOneNumber(Rule):
    """gather_elements(x, i), every element of x the same -> broadcast_to(that one)"""

    example = {"x": np.zeros((1, 4), "i8"), "i": "i32[1, 3]", "axis": 1}

    def match(self, op: Ops, x: Const, i: Value, *, axis: int) -> Pattern:
        return op.gather_elements(x, i, axis=axis)

    def where(self, x: Value) -> str | None:
        assert x.literal is not None
        numbers = {number.tobytes() for number in x.literal.ravel()}  # -0.0 is not 0.0, and NaN is itself
        return None if len(numbers) == 1 else ""

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        assert x.literal is not None
        return op.broadcast_to(op.constant(x.literal.reshape(-1)[:1].reshape([1] * x.type.rank)), shape=out.shape)


class EmbeddingOfOneRow(Rule):
    """embedding(broadcast_to(i, shape), w) -> broadcast_to(embedding(i, w))"""

    example = {"i": "i32[2, 1]", "w": "@f32[5, 8]", "shape": (2, 3), "to": "f32"}

    def match(self, op: Ops, i: Value, w: Value, *, shape: tuple[Dim, ...], to: str) -> Pattern:
        return op.embedding(op.aside(op.broadcast_to(i, shape=shape)), w, to=to)

    def build(self, op: Ops, i: Value, w: Value, to: str, out: Value) -> Value:
        return op.broadcast_to(op.embedding(_as_ids(op, i), w, to=to), shape=out.shape)


class RecoverGather(RewritePass):
    """Gathers from tables of weights become embeddings; of what is one number everywhere, that number."""

    rules = (EmbeddingFromGather, GatherOfOneNumber, EmbeddingOfOneRow)


def _as_ids(op: Ops, ids: Value) -> Value:
    """Known ids in i32, as ids of tokens are: those that it does not hold are out of bounds either way."""
    if ids.literal is None:
        return ids
    limits = np.iinfo(NUMPY["i32"])
    return op.constant(np.clip(ids.literal, limits.min, limits.max).astype(NUMPY["i32"]))
