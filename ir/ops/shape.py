"""Memory operators: the same numbers in another shape, order or place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from burnish.ir.box import Box, moved, reshaped, under
from burnish.ir.dims import Dim, Sym, dim_text, divide, product
from burnish.ir.format import LAYOUTS
from burnish.ir.guards import AtMost, assume_at_most, assume_equal, assume_sizes, broadcast
from burnish.ir.op import Array, Arrays, Axes, Op, Part
from burnish.ir.state import INDEPENDENT, Independent, Refused, Steps, axes_with, beyond, by_along
from burnish.ir.types import NUMPY, InferError, Type, require

if TYPE_CHECKING:
    from burnish.ir.builder import Ops
    from burnish.ir.graph import Node, Value


class _Memory(Op):
    kind = "memory"
    widen = False
    reproducible = True


class Reshape(_Memory):
    """The elements of x, in row-major order, in another shape; one size may be -1, which is what is left over."""

    shape: tuple[Dim, ...]
    planewise = True

    def infer(self, x: Type) -> Type:
        shape = list(self.shape)
        if -1 in shape:
            at = shape.index(-1)
            size = divide(x.shape, tuple(shape[:at] + shape[at + 1 :]))
            if size is None:
                raise InferError(f"reshape: {x} does not divide into {_shape(shape)}")
            shape[at] = size
        else:
            same = divide(x.shape, self.shape) == 1 or product(x.shape) == product(self.shape)
            require(same, f"reshape: {x} has not as many elements as {_shape(shape)}")
        _require_rows("reshape", x, tuple(shape[-1:]) == x.shape[-1:])
        return x.with_shape(shape)

    def on_plane(self, lead: int, inner: tuple[int, ...]) -> Op:
        return Reshape(shape=(*self.shape[:-1], *inner))

    def part(self, box: Box, operands: Sequence[Type | None], result: int) -> Part | None:
        (x,) = operands
        assert x is not None
        if 0 in x.sizes:
            return None
        held, source = reshaped(box, self.results(x)[0].sizes, x.sizes)
        inside = tuple(slice(b.start - h.start, b.stop - h.start) for b, h in zip(box, held, strict=True))
        return Part(Reshape(shape=tuple(h.stop - h.start for h in held)), (source,), inside)

    def stateful(self, op: Ops, node: Node, state: Steps) -> Independent | Refused:
        """Independent where tokens stay apart, each with as many numbers behind it, and sequences are outermost."""
        before, after = node["x"].type, self.results(node["x"].type)[0]
        for symbol, what in state.symbols.items():
            found, to = axes_with(before, symbol), axes_with(after, symbol)
            if what == "sequences" and found == to == [0]:
                continue
            behind = [[product(t.shape[i + 1 :]) for i in axes] for t, axes in ((before, found), (after, to))]
            if len(found) > 1 or behind[0] != behind[1]:
                return Refused(f"it moves the {what} of {before} to where others are, in {after}")
        return INDEPENDENT

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.reshape(x, self.shape)


class Transpose(_Memory):
    """x with its axes in the order `perm`"""

    perm: tuple[int, ...]
    planewise = True

    def infer(self, x: Type) -> Type:
        require(sorted(self.perm) == list(range(x.rank)), f"transpose: {list(self.perm)} does not permute {x}")
        _require_rows("transpose", x, self.perm[-1:] == (x.rank - 1,))
        return x.with_shape(x.shape[i] for i in self.perm)

    def on_plane(self, lead: int, inner: tuple[int, ...]) -> Op:
        return Transpose(perm=(*self.perm[:-1], *range(lead, lead + len(inner))))

    def along(self, x: Type) -> tuple[Axes, ...]:
        return (tuple(self.perm.index(i) for i in range(x.rank)),)

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.transpose(x, self.perm)


class Squeeze(_Memory):
    """x without the unit dimensions listed in `axes`"""

    axes: tuple[int, ...]
    planewise = True

    def infer(self, x: Type) -> Type:
        _require_rows("squeeze", x, x.rank - 1 not in self.axes)
        where = f"squeeze: axes {list(self.axes)} of {x} are not of size 1"
        require(all(0 <= a < x.rank for a in self.axes), where)
        for a in self.axes:
            assume_equal(x.shape[a], 1, where)
        return x.with_shape(d for i, d in enumerate(x.shape) if i not in self.axes)

    def along(self, x: Type) -> tuple[Axes, ...]:
        kept = iter(range(x.rank))
        return (tuple(None if i in self.axes else next(kept) for i in range(x.rank)),)

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.squeeze(x, self.axes)


class Unsqueeze(_Memory):
    """x with unit dimensions added; `axes` are theirs in the result"""

    axes: tuple[int, ...]
    planewise = True

    def infer(self, x: Type) -> Type:
        rank = x.rank + len(self.axes)
        good = len(set(self.axes)) == len(self.axes) and all(0 <= a < rank for a in self.axes)
        require(good, f"unsqueeze: axes {list(self.axes)} do not fit {x}")
        _require_rows("unsqueeze", x, rank - 1 not in self.axes)
        rest = iter(x.shape)
        return x.with_shape(1 if i in self.axes else next(rest) for i in range(rank))

    def along(self, x: Type) -> tuple[Axes, ...]:
        return (tuple(i for i in range(x.rank + len(self.axes)) if i not in self.axes),)

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.expand_dims(x, self.axes)


class BroadcastTo(_Memory):
    """x repeated along its unit and missing dimensions"""

    shape: tuple[Dim, ...]

    def infer(self, x: Type) -> Type:
        require(x.format is None, f"broadcast_to: {x} is packed")
        where = f"broadcast_to: {x} to {_shape(self.shape)}"
        assume_sizes(self.shape, where)
        require(broadcast(self.shape, x.shape, where=where) == self.shape, where)
        return x.with_shape(self.shape)

    def part(self, box: Box, operands: Sequence[Type | None], result: int) -> Part:
        (x,) = operands
        assert x is not None
        return Part(BroadcastTo(shape=tuple(s.stop - s.start for s in box)), (under(box, x.sizes),))

    def along(self, x: Type) -> tuple[Axes, ...]:
        return (tuple(range(len(self.shape) - x.rank, len(self.shape))),)

    def stateful(self, op: Ops, node: Node, state: Steps) -> Value | Independent | Refused:
        """Independent: what is repeated is the same for every token, and for every key of theirs."""
        repeated = self.results(node["x"].type)[0]
        axes = axes_with(repeated, state.tokens)
        if len(axes) < 2:
            return INDEPENDENT
        if len(axes) > 2 or axes_with(node["x"].type, state.tokens) or repeated.shape[axes[1]] != Sym(state.tokens):
            return by_along(node, state)
        shape = (*self.shape[: axes[1]], state.capacity, *self.shape[axes[1] + 1 :])
        return op.again(node, BroadcastTo(shape=shape))

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.broadcast_to(x, self.shape)


class Concat(_Memory):
    """The operands one after the other along `axis`"""

    axis: int
    planewise = True

    def infer(self, *xs: Type) -> Type:
        require(xs, "concat: there is no operand")
        first = xs[0]
        axis = first.axis(self.axis)
        _require_rows("concat", first, 0 <= self.axis < first.rank - 1)
        shape = list(first.shape)
        for x in xs[1:]:
            require((x.dtype, x.layout, x.rank) == (first.dtype, first.layout, first.rank), f"concat: {first} and {x}")
            for i, d in enumerate(x.shape):
                shape[i] = shape[i] + d if i == axis else assume_equal(shape[i], d, f"concat({first}, {x})")
        return first.with_shape(shape)

    def part(self, box: Box, operands: Sequence[Type | None], result: int) -> Part:
        axis = self.axis % len(box)
        wanted, at = box[axis], 0
        boxes: list[Box | None] = []
        for x in operands:
            assert x is not None
            size = x.sizes[axis]
            low, high = max(wanted.start - at, 0), min(wanted.stop - at, size)
            boxes.append((*box[:axis], slice(low, high), *box[axis + 1 :]) if low < high else None)
            at += size
        return Part(self, tuple(boxes))

    def along(self, *xs: Type) -> tuple[Axes, ...]:
        return tuple(_but(x.rank, x.axis(self.axis)) for x in xs)

    def eval(self, xp: Arrays, *xs: Array) -> Array:
        return xp.concatenate(xs, axis=self.axis)


class Split(_Memory):
    """x cut along `axis` into parts of `sizes`"""

    axis: int
    sizes: tuple[Dim, ...]
    planewise = True

    def infer(self, x: Type) -> tuple[Type, ...]:
        _require_rows("split", x, 0 <= self.axis < x.rank - 1)
        axis = x.axis(self.axis)
        where = f"split: {_shape(self.sizes)} do not add up to axis {axis} of {x}"
        total: Dim = 0
        for size in self.sizes:
            total = total + size
        assume_sizes(self.sizes, where)
        assume_equal(total, x.shape[axis], where)
        return tuple(x.with_shape((*x.shape[:axis], size, *x.shape[axis + 1 :])) for size in self.sizes)

    def part(self, box: Box, operands: Sequence[Type | None], result: int) -> Part | None:
        start: Dim = 0
        for size in self.sizes[:result]:
            start = start + size
        return Slice(axis=self.axis, start=start, stop=start + self.sizes[result]).part(box, operands, 0)

    def along(self, x: Type) -> tuple[Axes, ...]:
        return (_but(x.rank, x.axis(self.axis)),)

    def eval(self, xp: Arrays, x: Array) -> tuple[Array, ...]:
        cuts = [sum(self.sizes[: i + 1]) for i in range(len(self.sizes) - 1)]
        return tuple(xp.split(x, cuts, axis=self.axis))


class Slice(_Memory):
    """x[start:stop] along `axis`: 0 <= start <= stop <= its size"""

    axis: int
    start: Dim
    stop: Dim
    version = 2  # bounds lie within the axis
    planewise = True

    def infer(self, x: Type) -> Type:
        _require_rows("slice", x, 0 <= self.axis < x.rank - 1)
        axis = x.axis(self.axis)
        where = f"slice: {self.start}:{self.stop} of axis {axis} of {x}"
        assume_at_most(0, self.start, where)
        assume_at_most(self.start, self.stop, where)
        assume_at_most(self.stop, x.shape[axis], where)
        return x.with_shape((*x.shape[:axis], self.stop - self.start, *x.shape[axis + 1 :]))

    def part(self, box: Box, operands: Sequence[Type | None], result: int) -> Part:
        assert isinstance(self.start, int)
        axis = self.axis % len(box)
        length = box[axis].stop - box[axis].start
        return Part(self.changed(start=0, stop=length), (moved(box, axis, self.start),))

    def along(self, x: Type) -> tuple[Axes, ...]:
        return (_but(x.rank, x.axis(self.axis)),)

    def eval(self, xp: Arrays, x: Array) -> Array:
        index = [slice(None)] * x.ndim
        index[self.axis] = slice(self.start, self.stop)
        return x[tuple(index)]


class Stack(_Memory):
    """The operands along a new first axis"""

    planewise = True
    keeps_rows = True

    def infer(self, *xs: Type) -> Type:
        require(xs and all(x == xs[0] for x in xs), f"stack: {', '.join(map(str, xs))} differ, or are none")
        return xs[0].with_shape((len(xs), *xs[0].shape))

    def part(self, box: Box, operands: Sequence[Type | None], result: int) -> Part:
        stacked = range(box[0].start, box[0].stop)
        return Part(self, tuple(box[1:] if i in stacked else None for i in range(len(operands))))

    def along(self, *xs: Type) -> tuple[Axes, ...]:
        return tuple(tuple(range(1, x.rank + 1)) for x in xs)

    def eval(self, xp: Arrays, *xs: Array) -> Array:
        return xp.stack(xs)


class Index(_Memory):
    """x[index], without the first axis"""

    index: int
    planewise = True

    def infer(self, x: Type) -> Type:
        require(x.rank > 0, f"index: {x} has no axis to index")
        _require_rows("index", x, x.rank > 1)
        where = f"index: {x} has no row {self.index}"
        require(self.index >= 0, where)
        assume_at_most(self.index + 1, x.shape[0], where)
        return x.with_shape(x.shape[1:])

    def part(self, box: Box, operands: Sequence[Type | None], result: int) -> Part:
        return Part(Index(index=0), ((slice(self.index, self.index + 1), *box),))

    def along(self, x: Type) -> tuple[Axes, ...]:
        return ((None, *range(x.rank - 1)),)

    def eval(self, xp: Arrays, x: Array) -> Array:
        return x[self.index]


class Iota(_Memory):
    """0, 1, 2, … size - 1"""

    size: Dim
    dtype: str = "i32"

    def infer(self) -> Type:
        require(self.dtype in NUMPY and self.dtype != "bool", f"iota: {self.dtype!r} is not a plain number's type")
        assume_sizes((self.size,), "iota")
        return Type(self.dtype, (self.size,))

    def eval(self, xp: Arrays) -> Array:
        return xp.arange(self.size, dtype=NUMPY[self.dtype])


class Gather(_Memory):
    """x at `indices` along `axis`; those out of bounds are clipped to the nearest, negative ones count from the end"""

    axis: int
    planewise = True

    def infer(self, x: Type, indices: Type) -> Type:
        _require_rows("gather", x, 0 <= self.axis < x.rank - 1)
        require(indices.is_integer, f"gather: {indices} are not integers")
        axis = x.axis(self.axis)
        return x.with_shape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))

    def along(self, x: Type, indices: Type) -> tuple[Axes, ...]:
        axis = x.axis(self.axis)
        behind = range(axis + indices.rank, x.rank + indices.rank - 1)
        return (*range(axis), None, *behind), tuple(range(axis, axis + indices.rank))

    def part(self, box: Box, operands: Sequence[Type | None], result: int) -> None:
        """It takes all: a row that is asked for may be any."""

    def stateful(self, op: Ops, node: Node, state: Steps) -> Independent | Refused:
        """A table of positions bounds how many tokens there may be."""
        if (below := beyond(node["indices"], state)) is not None:
            op.assume(AtMost(below, node["x"].type.shape[node["x"].type.axis(self.axis)]))
        return by_along(node, state)

    def eval(self, xp: Arrays, x: Array, indices: Array) -> Array:
        return xp.take(x, within(xp, indices, x.shape[self.axis]), axis=self.axis, mode="clip")


class GatherElements(_Memory):
    """x at `indices` along `axis`, each in its own place along the others: x[indices[i, j], j]; bounds as for gather"""

    axis: int

    def infer(self, x: Type, indices: Type) -> Type:
        require(x.format is None, f"gather_elements: {x} is packed")
        where = f"gather_elements: {indices} do not index {x}"
        require(indices.is_integer and indices.rank == x.rank, where)
        axis = x.axis(self.axis)
        for i, (n, size) in enumerate(zip(indices.shape, x.shape, strict=True)):
            if i != axis:
                assume_at_most(n, size, where)
        return x.with_shape(indices.shape)

    def along(self, x: Type, indices: Type) -> tuple[Axes, ...]:
        axis = x.axis(self.axis)
        return _but(x.rank, axis), tuple(range(indices.rank))

    def part(self, box: Box, operands: Sequence[Type | None], result: int) -> None:
        """It takes all: a row that is asked for may be any."""

    def eval(self, xp: Arrays, x: Array, indices: Array) -> Array:
        axis = self.axis % x.ndim
        lead = tuple(slice(None) if i == axis else slice(0, n) for i, n in enumerate(indices.shape))
        return xp.take_along_axis(x[lead], within(xp, indices, x.shape[axis]), axis=axis)


class GatherNd(_Memory):
    """x at each vector along the last axis of `indices`, which indexes the first axes of x; bounds as for gather"""

    def infer(self, x: Type, indices: Type) -> Type:
        require(x.format is None, f"gather_nd: {x} is packed")
        require(indices.is_integer and indices.rank > 0, f"gather_nd: {indices} are not indices")
        depth = indices.shape[-1]
        if not isinstance(depth, int) or not 0 < depth <= x.rank:
            raise InferError(f"gather_nd: {indices} do not index {x}")
        return x.with_shape((*indices.shape[:-1], *x.shape[depth:]))

    def along(self, x: Type, indices: Type) -> tuple[Axes, ...]:
        depth = indices.shape[-1]
        assert isinstance(depth, int)
        behind = range(indices.rank - 1, indices.rank - 1 + x.rank - depth)
        return (*(None,) * depth, *behind), (*range(indices.rank - 1), None)

    def part(self, box: Box, operands: Sequence[Type | None], result: int) -> None:
        """It takes all: a row that is asked for may be any."""

    def stateful(self, op: Ops, node: Node, state: Steps) -> Independent | Refused:
        """A table of positions bounds how many tokens there may be."""
        if node["indices"].shape[-1] == 1 and (below := beyond(node["indices"], state)) is not None:
            op.assume(AtMost(below, node["x"].shape[0]))
        return by_along(node, state)

    def eval(self, xp: Arrays, x: Array, indices: Array) -> Array:
        at = [within(xp, indices[..., i], x.shape[i]) for i in range(indices.shape[-1])]
        return x[tuple(at)]


def within(xp: Arrays, indices: Array, size: int) -> Array:
    """Indices from 0 to size - 1: negative ones count from the end, the others are clipped to the nearest."""
    if indices.dtype.itemsize < 4:
        indices = indices.astype("int32")  # the size may not fit
    return xp.clip(xp.where(indices < 0, indices + size, indices), 0, size - 1)


def _require_rows(what: str, x: Type, kept: bool) -> None:
    """A packed operand must lie by rows, and the op keep its last axis: the groups of a row are never cut or moved."""
    if x.format is not None:
        why = "its last axis must stay last, and whole; axes are counted from the front"
        require(kept, f"{what}: {x} is packed: {why}")
        require(LAYOUTS[x.layout].by_rows, f"{what}: {x} does not lie by rows; do this before it is laid out")


def _but(rank: int, axis: int) -> Axes:
    """Each axis of an operand along its own, but for one."""
    return tuple(None if i == axis else i for i in range(rank))


def _shape(shape: tuple[Dim, ...] | list[Dim]) -> str:
    return "[" + ", ".join(map(dim_text, shape)) + "]"
