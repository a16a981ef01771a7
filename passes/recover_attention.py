"""recover-attention: attention found in its parts, from a softmax between two products outwards."""

from __future__ import annotations

from burnish.ir.builder import Ops
from burnish.ir.dims import Dim
from burnish.ir.graph import Value
from burnish.ir.ops.elementwise import Where
from burnish.passes.engine import Const, Pattern, RewritePass, Rule
from burnish.passes.simplify_memory import DropNoOp, MergeTransposes

_HEADS = (0, 2, 1, 3)  # between [B, S, H, D] and [B, H, S, D]
_KEYS = (0, 3, 1, 2)  # [B, H, D, T] to [B, T, H, D]
_SNAP = 2.0**-22  # relative: two square roots of a scale, rounded to f32, multiply to less than this from it


class ScalesOfScores(Rule):
    """matmul(mul(q, a), mul(k, b)), a and b one number each -> mul(matmul(q, k), a * b)"""

    exactness = "rounding"
    example = {"q": "f32[2, 4, 3, 8]", "k": "f32[2, 4, 8, 5]", "a": 0.5, "b": 0.25}

    def match(self, op: Ops, q: Value, k: Value, a: Const, b: Const) -> Pattern:
        return op.matmul(op.mul(q, a), op.mul(k, b))

    def where(self, a: Value, b: Value) -> str | None:
        return None if a.type.elements == 1 == b.type.elements else f"{a.type} and {b.type} are not numbers"

    def build(self, op: Ops, q: Value, k: Value, a: Value, b: Value) -> Value:
        assert a.literal is not None and b.literal is not None
        return op.mul(op.matmul(q, k), op.constant((a.literal * b.literal).reshape(())))


class ScaleOfScores(Rule):
    """matmul(mul(q, c), k) or matmul(q, mul(k, c)), c one number -> mul(matmul(q, k), c)"""

    exactness = "rounding"
    example = {"q": "f32[2, 4, 3, 8]", "k": "f32[2, 4, 8, 5]", "c": 0.5}

    def match(self, op: Ops, q: Value, k: Value, c: Const) -> Pattern:
        return [op.matmul(op.mul(q, c), k), op.matmul(q, op.mul(k, c))]

    def where(self, q: Value, k: Value, c: Value) -> str | None:
        heads = c.type.elements == 1 and q.type.rank == k.type.rank == 4
        return None if heads else f"{q.type} and {k.type} are not of heads"

    def build(self, op: Ops, q: Value, k: Value, c: Value) -> Value:
        return op.mul(op.matmul(q, k), c)


class DividedScores(Rule):
    """div(matmul(q, k), c), or one of the two divided, c one number -> mul(matmul(q, k), 1 / c)"""

    exactness = "rounding"
    example = {"q": "f32[2, 4, 3, 8]", "k": "f32[2, 4, 8, 5]", "c": 2.5}

    def match(self, op: Ops, q: Value, k: Value, c: Const) -> Pattern:
        return [op.div(op.matmul(q, k), c), op.matmul(op.div(q, c), k), op.matmul(q, op.div(k, c))]

    def where(self, q: Value, k: Value, c: Value) -> str | None:
        number = c.type.elements == 1 and c.literal is not None and c.literal.all()
        return None if number and q.type.rank == k.type.rank == 4 else f"{q.type} and {k.type} are not of heads"

    def build(self, op: Ops, q: Value, k: Value, c: Value) -> Value:
        assert c.literal is not None
        return op.mul(op.matmul(q, k), op.constant((1 / c.literal).astype(c.literal.dtype).reshape(())))


class AttentionFromParts(Rule):
    """matmul(softmax(matmul(q, k) * c + bias), v) -> transpose(attention(transposes of q, k and v, bias; scale=c))

    Where a bias hides all keys of a row, that is NaN, unless the source replaces it by 0.
    """

    exactness = "rounding"
    example = {"q": "f32[2, 4, 3, 8]", "k": "f32[2, 4, 8, 5]", "v": "f32[2, 4, 5, 6]", "c": 0.5}
    example |= {"bias": "f32[2, 1, 3, 5]"}

    def match(
        self, op: Ops, q: Value, k: Value, v: Value, c: Const | None = None, bias: Value | None = None
    ) -> Pattern:
        plain = op.matmul(q, k)
        scaled = plain if c is None else op.mul(plain, c)
        biased = [scores if bias is None else op.add(scores, bias) for scores in (scaled, plain)]
        weights = [op.softmax(scores) for scores in (scaled, plain, *biased)]
        return [op.matmul(p, v) for w in weights for p in (w, op.where(op.isnan(w), 0.0, w))]

    def where(self, q: Value, k: Value, v: Value, c: Value | None, out: Value) -> str | None:
        types = f"{q.type}, {k.type} and {v.type}"
        if {x.type.rank for x in (q, k, v)} != {4} or (c is not None and c.type.elements != 1):
            return f"{types} are not of heads"
        good = q.shape[:2] == k.shape[:2] == v.shape[:2] == out.shape[:-2]
        return None if good else f"{types} broadcast, to {out.type}"

    def build(self, op: Ops, q: Value, k: Value, v: Value, c: Value | None, bias: Value | None, out: Value) -> Value:
        assert out.node is not None
        replaced = isinstance(out.node["a"].op, Where)
        no_keys = "zero" if bias is None or replaced else "nan"
        scale = 1.0 if c is None or c.literal is None else float(c.literal.reshape(()))
        usual = q.shape[3] ** -0.5 if isinstance(q.shape[3], int) else scale
        scale = usual if abs(scale - usual) < _SNAP * usual else scale
        q, k, v = op.transpose(q, perm=_HEADS), op.transpose(k, perm=_KEYS), op.transpose(v, perm=_HEADS)
        return op.transpose(op.attention(q, k, v, bias=bias, scale=scale, no_keys=no_keys), perm=_HEADS)


class GroupedHeads(Rule):
    """attention(q, k, v), k and v repeated for the heads of each group -> attention(q, k, v)"""

    exactness = "rounding"
    example = {"q": "f32[2, 3, 6, 8]", "k": "f32[2, 2, 5, 8]", "v": "f32[2, 2, 5, 4]", "bias": "f32[2, 1, 3, 5]"}
    example |= {"k_wide": (2, 2, 3, 5, 8), "k_flat": (2, 6, 5, 8), "v_wide": (2, 2, 3, 5, 4), "v_flat": (2, 6, 5, 4)}
    example |= {"scale": 0.5, "no_keys": "nan"}

    def match(
        self,
        op: Ops,
        q: Value,
        k: Value,
        v: Value,
        bias: Value | None = None,
        *,
        k_wide: tuple[Dim, ...],
        k_flat: tuple[Dim, ...],
        v_wide: tuple[Dim, ...],
        v_flat: tuple[Dim, ...],
        scale: float,
        no_keys: str,
    ) -> Pattern:
        ks = op.reshape(op.broadcast_to(op.unsqueeze(k, axes=(2,)), shape=k_wide), shape=k_flat)
        vs = op.reshape(op.broadcast_to(op.unsqueeze(v, axes=(2,)), shape=v_wide), shape=v_flat)
        ks, vs = op.transpose(ks, perm=_HEADS), op.transpose(vs, perm=_HEADS)
        return op.attention(q, ks, vs, bias=bias, scale=scale, no_keys=no_keys)

    def where(
        self, k_wide: tuple[Dim, ...], k_flat: tuple[Dim, ...], v_wide: tuple[Dim, ...], v_flat: tuple[Dim, ...]
    ) -> str | None:
        for wide, flat in ((k_wide, k_flat), (v_wide, v_flat)):
            if len(flat) != 4 or len(wide) != 5 or (flat[0], *flat[2:]) != (wide[0], *wide[3:]):
                return f"{list(wide)} as {list(flat)} are not the heads of a group"
        return None

    def build(self, op: Ops, k: Value, v: Value, out: Value) -> Value:
        assert out.node is not None
        return op.again(out.node, k=op.transpose(k, perm=_HEADS), v=op.transpose(v, perm=_HEADS))


class OneGroup(Rule):
    """attention(q, k, v), one k and v repeated for all heads -> attention(q, k, v)"""

    exactness = "rounding"
    example = {"q": "f32[2, 3, 6, 8]", "k": "f32[2, 1, 5, 8]", "v": "f32[2, 1, 5, 4]", "bias": "f32[2, 1, 3, 5]"}
    example |= {"k_wide": (2, 1, 6, 5, 8), "v_wide": (2, 1, 6, 5, 4), "scale": 0.5, "no_keys": "zero"}

    def match(
        self,
        op: Ops,
        q: Value,
        k: Value,
        v: Value,
        bias: Value | None = None,
        *,
        k_wide: tuple[Dim, ...],
        v_wide: tuple[Dim, ...],
        scale: float,
        no_keys: str,
    ) -> Pattern:
        ks = op.squeeze(op.broadcast_to(op.unsqueeze(k, axes=(2,)), shape=k_wide), axes=(1,))
        vs = op.squeeze(op.broadcast_to(op.unsqueeze(v, axes=(2,)), shape=v_wide), axes=(1,))
        ks, vs = op.transpose(ks, perm=_HEADS), op.transpose(vs, perm=_HEADS)
        return op.attention(q, ks, vs, bias=bias, scale=scale, no_keys=no_keys)

    def build(self, op: Ops, k: Value, v: Value, out: Value) -> Value:
        assert out.node is not None
        return op.again(out.node, k=op.transpose(k, perm=_HEADS), v=op.transpose(v, perm=_HEADS))


class RecoverAttention(RewritePass):
    """Attention written out becomes one op; what stands around it is absorbed: scales, biases, repeated heads."""

    rules = (
        DividedScores,
        ScalesOfScores,  # before one of them alone, or attention would form around the other
        ScaleOfScores,
        AttentionFromParts,
        MergeTransposes,  # repeated heads show when the transposes around them are gone
        DropNoOp,
        GroupedHeads,
        OneGroup,
    )
