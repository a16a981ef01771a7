"""recover-rope: rotary positions found in their parts."""

from __future__ import annotations

from burnish.ir.builder import Ops
from burnish.ir.graph import Value
from burnish.passes.engine import Pattern, RewritePass, Rule

_HEADS = (0, 2, 1, 3)  # between [B, S, H, D] and [B, H, S, D]


class RopeFromParts(Rule):
    """add(mul(x, cos), mul(concat(neg(right half of x), left half), sin)) -> transpose(rope(transpose(x), …))

    cos and sin, of the positions times the frequencies written twice, are shared by all blocks.
    """

    exactness = "rounding"
    example = {"x": "f32[2, 4, 3, 6]", "positions": "i32[1, 3, 1]", "inv_freq": [1.0, 0.25, 0.125]}
    example |= {"half": 3, "size": 6}

    def match(self, op: Ops, x: Value, positions: Value, inv_freq: Value, *, half: int, size: int) -> Pattern:
        angles = op.mul(op.cast(positions, to="f32"), inv_freq)
        twice = op.concat(angles, angles, axis=-1)
        cos, sin = (op.unsqueeze(table, axes=(1,)) for table in (op.cos(twice), op.sin(twice)))
        left, right = op.slice(x, axis=3, start=0, stop=half), op.slice(x, axis=3, start=half, stop=size)
        turned = op.concat(op.neg(right), left, axis=-1)
        return op.add(op.mul(x, op.aside(cos)), op.mul(turned, op.aside(sin)))

    def where(self, x: Value, positions: Value, inv_freq: Value, half: int, size: int) -> str | None:
        if x.type.rank != 4 or (size, 2 * half) != (x.shape[3], x.shape[3]) or inv_freq.shape != (half,):
            return f"{inv_freq.type} does not turn {x.type} by halves"
        good = positions.type.rank == 3 and positions.shape[2] == 1 and positions.type.is_integer
        return None if good else f"{positions.type} are not positions"

    def build(self, op: Ops, x: Value, positions: Value, inv_freq: Value) -> Value:
        turned = op.rope(op.transpose(x, perm=_HEADS), op.squeeze(positions, axes=(2,)), inv_freq)
        return op.transpose(turned, perm=_HEADS)


class RecoverRope(RewritePass):
    """Rotary position embeddings written out become one op."""

    rules = (RopeFromParts,)
