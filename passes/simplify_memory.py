"""simplify-memory: chains of reshapes, transposes, squeezes and casts merged, cancelled, or made squeezes."""

from __future__ import annotations

from collections.abc import Iterator

from burnish.ir.builder import Ops
from burnish.ir.dims import Dim
from burnish.ir.graph import Node, Value
from burnish.ir.guards import broadcast
from burnish.ir.ops.shape import Concat, Slice
from burnish.ir.types import NUMPY, holds
from burnish.passes.engine import Match, Pattern, RewritePass, Rule


class ReshapeToSqueeze(Rule):
    """reshape(x) that only drops or adds unit dimensions -> unsqueeze(squeeze(x))"""

    example = {"x": "f32[2, 1, 3]", "shape": (1, 2, 3)}

    def match(self, op: Ops, x: Value, *, shape: tuple[Dim, ...]) -> Pattern:
        return op.reshape(x, shape=shape)

    def where(self, x: Value, out: Value) -> str | None:
        return None if unit_axes(x.shape, out.shape) else f"{x.type} to {out.type} moves elements between axes"

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        axes = unit_axes(x.shape, out.shape)
        assert axes is not None
        dropped, added = axes
        if dropped:
            x = op.squeeze(x, axes=dropped)
        return op.unsqueeze(x, axes=added) if added else x


def unit_axes(before: tuple[Dim, ...], after: tuple[Dim, ...]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
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
            op.reshape(op.aside(op.reshape(x, shape=inner)), shape=shape),
            op.reshape(op.aside(op.squeeze(x, axes=axes)), shape=shape),
            op.reshape(op.aside(op.unsqueeze(x, axes=axes)), shape=shape),
        ]

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        return op.reshape(x, shape=out.shape)


class ReshapeAbsorbsSqueeze(Rule):
    """squeeze or unsqueeze(reshape(x)) -> reshape(x)"""

    example = {"x": "f32[2, 6]", "shape": (4, 1, 3), "axes": (1,)}

    def match(self, op: Ops, x: Value, *, shape: tuple[Dim, ...], axes: tuple[int, ...]) -> Pattern:
        flat = op.aside(op.reshape(x, shape=shape))
        return [op.squeeze(flat, axes=axes), op.unsqueeze(flat, axes=axes)]

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        return op.reshape(x, shape=out.shape)


class MergeSqueezes(Rule):
    """squeeze(squeeze or unsqueeze of x), unsqueeze(unsqueeze(x)), unsqueeze(squeeze(x)) with less to do -> the rest"""

    example = {"x": "f32[2, 1, 1, 3]", "a": (1,), "b": (1,)}

    def match(self, op: Ops, x: Value, *, a: tuple[int, ...], b: tuple[int, ...]) -> Pattern:
        return [
            op.squeeze(op.aside(op.squeeze(x, axes=a)), axes=b),
            op.squeeze(op.aside(op.unsqueeze(x, axes=a)), axes=b),
            op.unsqueeze(op.aside(op.unsqueeze(x, axes=a)), axes=b),
            op.unsqueeze(op.aside(op.squeeze(x, axes=a)), axes=b),
        ]

    def where(self, x: Value, out: Value, a: tuple[int, ...], b: tuple[int, ...]) -> str | None:
        dropped, added = unit_axes(x.shape, out.shape) or ((), ())
        steps = bool(dropped) + bool(added)
        return None if steps < 2 or len(dropped) + len(added) < len(a) + len(b) else ""

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        return ReshapeToSqueeze().build(op, x, out)


class MergeTransposes(Rule):
    """transpose(transpose(x, p), q) -> transpose(x, p∘q)"""

    example = {"x": "f32[2, 3, 4]", "p": (1, 0, 2), "q": (2, 0, 1)}

    def match(self, op: Ops, x: Value, *, p: tuple[int, ...], q: tuple[int, ...]) -> Pattern:
        return op.transpose(op.aside(op.transpose(x, perm=p)), perm=q)

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


class TransposeOfMatrices(Rule):
    """reshape(transpose(reshape(x, [-1, S, D]), [0, 2, 1]), [..., D, S]) -> transpose(reshape(x, [..., S, D]), …)"""

    example = {"x": "f32[1, 2, 3, 4]", "inner": (2, 3, 4), "outer": (1, 2, 4, 3), "axes": (0,)}

    def match(
        self, op: Ops, x: Value, *, inner: tuple[Dim, ...], outer: tuple[Dim, ...], axes: tuple[int, ...]
    ) -> Pattern:
        flat, squeezed = op.reshape(x, shape=inner), op.squeeze(x, axes=axes)
        return [
            op.reshape(op.transpose(flat, perm=(0, 2, 1)), shape=outer),
            op.unsqueeze(op.transpose(flat, perm=(0, 2, 1)), axes=axes),
            op.unsqueeze(op.transpose(squeezed, perm=(0, 2, 1)), axes=axes),
        ]

    def where(self, out: Value) -> str | None:
        assert out.node is not None
        matrices = out.node["x"].shape[1:]
        return None if out.shape[-2:] == matrices else ""

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        rank = out.type.rank
        matrices = op.reshape(x, shape=(*out.shape[:-2], out.shape[-1], out.shape[-2]))
        return op.transpose(matrices, perm=(*range(rank - 2), rank - 1, rank - 2))


class MergeCasts(Rule):
    """cast(cast(x, a), b), a holding every value of x -> cast(x, b)

    Not from an integer by a float to an integer that may be too small: floats saturate, integers wrap around.
    """

    example = {"x": "i32[2, 3]", "a": "i64", "b": "bool"}

    def match(self, op: Ops, x: Value, *, a: str, b: str) -> Pattern:
        return op.cast(op.aside(op.cast(x, to=a)), to=b)

    def where(self, x: Value, out: Value, a: str, b: str) -> str | None:
        saturates = not x.type.is_float and NUMPY[a].kind not in "iub" and out.type.is_integer
        return None if holds(a, x.dtype) and (not saturates or holds(b, x.dtype)) else ""

    def build(self, op: Ops, x: Value, b: str) -> Value:
        return op.cast(x, to=b)


class MergeBroadcasts(Rule):
    """broadcast_to(broadcast_to(x)) -> broadcast_to(x)"""

    example = {"x": "f32[1, 3]", "inner": (2, 3), "shape": (4, 2, 3)}

    def match(self, op: Ops, x: Value, *, inner: tuple[Dim, ...], shape: tuple[Dim, ...]) -> Pattern:
        return op.broadcast_to(op.aside(op.broadcast_to(x, shape=inner)), shape=shape)

    def build(self, op: Ops, x: Value, shape: tuple[Dim, ...]) -> Value:
        return op.broadcast_to(x, shape=shape)


class OperandBroadcasts(Rule):
    """add or mul(x, broadcast_to(y)), where the op itself broadcasts y so -> add or mul(x, y)"""

    example = {"x": "f32[2, 3]", "y": "f32[1, 3]", "shape": (2, 3)}

    def match(self, op: Ops, x: Value, y: Value, *, shape: tuple[Dim, ...]) -> Pattern:
        wide = op.aside(op.broadcast_to(y, shape=shape))
        return [op.add(x, wide), op.mul(x, wide)]

    def where(self, x: Value, y: Value, out: Value) -> str | None:
        return None if broadcast(x.shape, y.shape, where="") == out.shape else ""

    def build(self, op: Ops, x: Value, y: Value, out: Value) -> Value:
        assert out.op is not None
        return op.emit(out.op, [x, y])


class JoinSlices(Rule):
    """concat(slice(x, 0:a), slice(x, a:b), …), all of x -> x"""

    at = (Concat,)
    example = """module {
      weights { @w: f32[5, 4] }
      graph forward() {
        %0: f32[3, 4] = slice(@w, axis=0, start=0, stop=3) <- "a"
        %1: f32[2, 4] = slice(@w, axis=0, start=3, stop=5) <- "b"
        %2: f32[5, 4] = concat(%0, %1, axis=0) <- "joined"
        return y=%2
      }
    }"""

    def find(self, node: Node) -> Iterator[Match]:
        assert isinstance(node.op, Concat)
        axis = node.out.type.axis(node.op.axis)
        x: Value | None = None
        end: Dim = 0
        for v in node.operands:
            cut = v.op
            if not isinstance(cut, Slice) or v.node is None or v.type.axis(cut.axis) != axis or cut.start != end:
                return
            if x is not None and v.node["x"] is not x:
                return
            x, end = v.node["x"], cut.stop
        if x is not None and end == x.shape[axis]:
            yield Match({"x": x}, [node], list(node.outputs), [])

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
        TransposeOfMatrices,
        MergeCasts,
        MergeBroadcasts,
        OperandBroadcasts,
        JoinSlices,
    )
