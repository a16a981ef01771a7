"""simplify-memory: chains of reshapes, transposes, squeezes and casts merged, cancelled, or made squeezes."""

from __future__ import annotations

from burnish.ir.dims import Dim
from burnish.ir.graph import Ops, Value
from burnish.passes.engine import Pattern, RewritePass, Rule


class ReshapeToSqueeze(Rule):
    """reshape(x) that only drops or adds unit dimensions -> unsqueeze(squeeze(x))"""

    example = {"x": "f32[2, 1, 3]", "shape": (1, 2, 3)}

    def match(self, op: Ops, x: Value, *, shape: tuple[Dim, ...]) -> Pattern:
        return op.reshape(x, shape=shape)

    def where(self, x: Value, out: Value) -> str | None:
        return None if _unit_axes(x.shape, out.shape) else f"{x.type} to {out.type} moves elements between axes"

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        axes = _unit_axes(x.shape, out.shape)
        assert axes is not None
        dropped, added = axes
        if dropped:
            x = op.squeeze(x, axes=dropped)
        return op.unsqueeze(x, axes=added) if added else x


def _unit_axes(before: tuple[Dim, ...], after: tuple[Dim, ...]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """(unit axes of `before` to drop, unit axes of `after` to add), or None where other axes differ."""
    i = j = 0
    dropped, added = [], []
    while i < len(before) or j < len(after):
        if i < len(before) and j < len(after) and before[i] == after[j]:
            i, j = i + 1, j + 1
        elif i < len(before) and before[i] == 1:
            dropped.append(i)
            i += 1
        elif j < len(after) and after[j] == 1:
            added.append(j)
            j += 1
        else:
            return None
    return tuple(dropped), tuple(added)


class MergeReshapes(Rule):
    """reshape(reshape, squeeze or unsqueeze of x) -> reshape(x)"""

    example = {"x": "f32[2, 1, 6]", "shape": (4, 3), "inner": (3, 1, 4), "axes": (1,)}

    def match(
        self, op: Ops, x: Value, *, shape: tuple[Dim, ...], inner: tuple[Dim, ...], axes: tuple[int, ...]
    ) -> Pattern:
        return [
            op.reshape(op.reshape(x, shape=inner), shape=shape),
            op.reshape(op.squeeze(x, axes=axes), shape=shape),
            op.reshape(op.unsqueeze(x, axes=axes), shape=shape),
        ]

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        return op.reshape(x, shape=out.shape)


class ReshapeAbsorbsSqueeze(Rule):
    """squeeze or unsqueeze(reshape(x)) -> reshape(x)"""

    example = {"x": "f32[2, 6]", "shape": (4, 1, 3), "axes": (1,)}

    def match(self, op: Ops, x: Value, *, shape: tuple[Dim, ...], axes: tuple[int, ...]) -> Pattern:
        return [op.squeeze(op.reshape(x, shape=shape), axes=axes), op.unsqueeze(op.reshape(x, shape=shape), axes=axes)]

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        return op.reshape(x, shape=out.shape)


class MergeSqueezes(Rule):
    """squeeze(squeeze or unsqueeze of x), unsqueeze(unsqueeze(x)), unsqueeze(squeeze(x)) with less to do -> the rest"""

    example = {"x": "f32[2, 1, 1, 3]", "a": (1,), "b": (1,)}

    def match(self, op: Ops, x: Value, *, a: tuple[int, ...], b: tuple[int, ...]) -> Pattern:
        return [
            op.squeeze(op.squeeze(x, axes=a), axes=b),
            op.squeeze(op.unsqueeze(x, axes=a), axes=b),
            op.unsqueeze(op.unsqueeze(x, axes=a), axes=b),
            op.unsqueeze(op.squeeze(x, axes=a), axes=b),
        ]

    def where(self, x: Value, out: Value, a: tuple[int, ...], b: tuple[int, ...]) -> str | None:
        dropped, added = _unit_axes(x.shape, out.shape) or ((), ())
        steps = bool(dropped) + bool(added)
        return None if steps < 2 or len(dropped) + len(added) < len(a) + len(b) else ""

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        return ReshapeToSqueeze().build(op, x, out)


class MergeTransposes(Rule):
    """transpose(transpose(x, p), q) -> transpose(x, p∘q)"""

    example = {"x": "f32[2, 3, 4]", "p": (1, 0, 2), "q": (2, 0, 1)}

    def match(self, op: Ops, x: Value, *, p: tuple[int, ...], q: tuple[int, ...]) -> Pattern:
        return op.transpose(op.transpose(x, perm=p), perm=q)

    def build(self, op: Ops, x: Value, p: tuple[int, ...], q: tuple[int, ...]) -> Value:
        return op.transpose(x, perm=tuple(p[i] for i in q))


class TransposeToReshape(Rule):
    """transpose(x) that moves only unit dimensions -> reshape(x)"""

    example = {"x": "f32[2, 1, 3]", "perm": (1, 0, 2)}

    def match(self, op: Ops, x: Value, *, perm: tuple[int, ...]) -> Pattern:
        return op.transpose(x, perm=perm)

    def where(self, x: Value, perm: tuple[int, ...]) -> str | None:
        moved = [i for i in perm if x.shape[i] != 1]
        return None if moved == sorted(moved) else f"transpose of {x.type} moves elements"

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        return op.reshape(x, shape=out.shape)


class DropNoOp(Rule):
    """reshape, transpose, broadcast_to, squeeze, unsqueeze, slice or cast of x that changes nothing -> x"""

    example = {"x": "f32[2, 3]", "shape": (2, 3), "perm": (0, 1), "axes": (), "to": "f32"}
    example |= {"axis": 0, "start": 0, "stop": 2}

    def match(
        self,
        op: Ops,
        x: Value,
        *,
        shape: tuple[Dim, ...],
        perm: tuple[int, ...],
        axes: tuple[int, ...],
        to: str,
        axis: int,
        start: Dim,
        stop: Dim,
    ) -> Pattern:
        return [
            op.reshape(x, shape=shape),
            op.transpose(x, perm=perm),
            op.broadcast_to(x, shape=shape),
            op.squeeze(x, axes=axes),
            op.unsqueeze(x, axes=axes),
            op.slice(x, axis=axis, start=start, stop=stop),
            op.cast(x, to=to),
        ]

    def where(self, x: Value, out: Value) -> str | None:
        perm = getattr(out.op, "perm", None)
        same = x.type == out.type and (perm is None or list(perm) == sorted(perm))
        return None if same else ""

    def build(self, op: Ops, x: Value) -> Value:
        return x


class SimplifyMemory(RewritePass):
    """Views that only add or drop unit dimensions become squeezes; chains of views merge and cancel."""

    rules = (
        DropNoOp,
        ReshapeToSqueeze,
        MergeReshapes,
        ReshapeAbsorbsSqueeze,
        MergeSqueezes,
        MergeTransposes,
        TransposeToReshape,
    )
