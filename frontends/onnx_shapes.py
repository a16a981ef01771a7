"""What each ONNX operator on shapes means in our ops: views, parts, sizes. See `onnx_ops.py`."""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np

from burnish.frontends.known import type_of
from burnish.frontends.onnx_ops import OnnxOps, X, axis_of, dims_of, from_end, integers, translates
from burnish.ir import guards
from burnish.ir.dims import Dim, Sym, at_most, bind, maximum, minimum, product, symbols_of
from burnish.ir.graph import Value
from burnish.ir.ops.shape import Reshape as ReshapeOp
from burnish.ir.types import NUMPY

__all__: list[str] = []

_FAR = (1 << 31) - 1  # slices to "the end" are written with the largest number, of i64 or of i32
_PARTS = 1 << 12  # of a split
_STEPPED = 1 << 16  # indices of a slice in steps



@translates("Shape")
def shape(op: OnnxOps, x: X, *, start: int = 0, end: int | None = None) -> X:
    dims = np.empty(len(x.shape), object)
    dims[:] = x.shape
    return op.cast(dims[start:end], to="i64") if dims[start:end].size else np.zeros(0, "i8")


@translates("Constant")
def constant(
    op: OnnxOps,
    *,
    value: X = None,
    value_float: float | None = None,
    value_int: int | None = None,
    value_floats: tuple[float, ...] | None = None,
    value_ints: tuple[int, ...] | None = None,
) -> X:
    for given, dtype in ((value_float, "f4"), (value_floats, "f4"), (value_int, "i8"), (value_ints, "i8")):
        if given is not None:
            return np.array(given, dtype)
    if value is None:
        raise ValueError("its value is of a kind that is not supported")
    return value


@translates("ConstantOfShape")
def constant_of_shape(op: OnnxOps, shape: X, *, value: X = None) -> X:
    number = np.zeros((), "f4") if value is None else value.reshape(())
    return op.broadcast_to(number, shape=dims_of(shape, "shape"))


@translates("Range")
def range_(op: OnnxOps, start: X, limit: X, delta: X) -> X:
    (first,), (last,), (step,) = (dims_of(x, "bound") for x in (start, limit, delta))
    if step != 1 or type_of(start).is_float:
        raise ValueError("only a range of integers in steps of 1 is supported")
    with _assuming(op):
        size = last - first if _fits(first, last) else maximum(last - first, 0)
    steps = op.iota(size=size, dtype="i64")
    return steps if first == 0 else op.add(steps, start.reshape(()))


@translates("Reshape")
def reshape(op: OnnxOps, x: X, shape: X, *, allowzero: int = 0) -> X:
    dims = [x.shape[i] if d == 0 and not allowzero else d for i, d in enumerate(dims_of(shape, "shape"))]
    sizes = ReshapeOp(shape=tuple(dims)).infer(type_of(x)).shape  # a -1 resolved
    return op.reshape(x, shape=sizes)


@translates("Squeeze")
def squeeze(op: OnnxOps, x: X, axes: X = None) -> X:
    if axes is None:
        if not all(isinstance(d, int) for d in x.shape):
            raise ValueError(f"without axes, the rank of the result would depend on the sizes of {type_of(x)}")
        return op.squeeze(x, axes=tuple(i for i, d in enumerate(x.shape) if d == 1))
    return op.squeeze(x, axes=tuple(sorted(axis_of(a, len(x.shape)) for a in integers(axes, "axes"))))


@translates("Unsqueeze")
def unsqueeze(op: OnnxOps, x: X, axes: X) -> X:
    added = integers(axes, "axes")
    return op.unsqueeze(x, axes=tuple(sorted(axis_of(a, len(x.shape) + len(added)) for a in added)))


@translates("Flatten")
def flatten(op: OnnxOps, x: X, *, axis: int = 1) -> X:
    at = axis if axis == len(x.shape) else axis_of(axis, len(x.shape))
    return op.reshape(x, shape=(product(tuple(x.shape[:at])), product(tuple(x.shape[at:]))))


@translates("Size")
def size(op: OnnxOps, x: X) -> X:
    return op.reshape(shape(op, op.reshape(x, shape=(product(tuple(x.shape)),))), shape=())


@translates("Tile")
def tile(op: OnnxOps, x: X, repeats: X) -> X:
    times = dims_of(repeats, "repeats")
    if len(times) != len(x.shape):
        raise ValueError(f"{len(times)} repeats do not fit {type_of(x)}")
    for i, n in enumerate(times):
        if n != 1:
            rows = op.unsqueeze(x, axes=(i,))
            rows = op.broadcast_to(rows, shape=(*x.shape[:i], n, *x.shape[i:]))
            x = op.reshape(rows, shape=(*x.shape[:i], n * x.shape[i], *x.shape[i + 1 :]))
    return x


@translates("Pad")
def pad(op: OnnxOps, x: X, pads: X, value: X = None, axes: X = None, *, mode: str = "constant") -> X:
    """`value` was an attribute, a number, before version 11."""
    if mode != "constant":
        raise ValueError(f"mode={mode} is not supported")
    sizes, rank = dims_of(pads, "pads"), len(x.shape)
    along = range(rank) if axes is None else [axis_of(a, rank) for a in integers(axes, "axes")]
    if len(sizes) != 2 * len(along):
        raise ValueError(f"{len(sizes)} pads do not fit {len(along)} axes")
    filling = np.array(value or 0) if value is None or isinstance(value, float) else value
    for axis, *around in zip(along, sizes[: len(along)], sizes[len(along) :], strict=True):
        before, after = (
            op.broadcast_to(op.cast(filling, to=type_of(x).dtype), shape=(*x.shape[:axis], n, *x.shape[axis + 1 :]))
            for n in around
        )
        x = op.concat(*([before] if around[0] != 0 else []), x, *([after] if around[1] != 0 else []), axis=axis)
    return x


@translates("Trilu")
def trilu(op: OnnxOps, x: X, k: X = None, *, upper: int = 1) -> X:
    (offset,) = (0,) if k is None else integers(k, "k")
    if len(x.shape) < 2:
        raise ValueError(f"{type_of(x)} is no matrix")
    rows, columns = (op.iota(size=d, dtype="i64") for d in x.shape[-2:])
    at = op.sub(columns, op.unsqueeze(rows, axes=(1,)))
    kept = op.less_or_equal(np.array(offset), at) if upper else op.less_or_equal(at, np.array(offset))
    return op.where(kept, x, np.zeros((), NUMPY[type_of(x).dtype]))


@translates("Transpose")
def transpose(op: OnnxOps, x: X, *, perm: tuple[int, ...] | None = None) -> X:
    return op.transpose(x, perm=tuple(reversed(range(len(x.shape)))) if perm is None else perm)


@translates("Expand")
def expand(op: OnnxOps, x: X, shape: X) -> X:
    dims = dims_of(shape, "shape")
    with _assuming(op):
        wanted = guards.broadcast(x.shape, dims, where=f"expand({list(x.shape)}, {list(dims)})")
    return x if wanted == tuple(x.shape) else op.broadcast_to(x, shape=wanted)


@translates("Concat")
def concat(op: OnnxOps, *xs: X, axis: int) -> X:
    return op.concat(*xs, axis=from_end(xs[0], axis)) if len(xs) > 1 else xs[0]


@translates("Split")
def split(op: OnnxOps, x: X, split: X = None, *, axis: int = 0, num_outputs: int | None = None) -> X:
    """Before version 18, the number of parts is that of the node's results; since then it is also said."""
    at = axis_of(axis, len(x.shape))
    if split is not None:
        return tuple(op.split(x, axis=at, sizes=dims_of(split, "split")))
    number, whole = op.results, x.shape[at]
    if num_outputs not in (None, number):
        raise ValueError(f"num_outputs={num_outputs} does not fit {number} results")
    if number > _PARTS:
        raise ValueError(f"{number} parts are more than {_PARTS}")
    part = (whole + number - 1) // number
    return tuple(op.split(x, axis=at, sizes=(part,) * (number - 1) + (whole - part * (number - 1),)))


@translates("Slice")
def slice_(op: OnnxOps, x: X, starts: X, ends: X, axes: X = None, steps: X = None) -> X:
    first, last = dims_of(starts, "starts"), dims_of(ends, "ends")
    along = range(len(first)) if axes is None else integers(axes, "axes")
    by = (1,) * len(first) if steps is None else integers(steps, "steps")
    for start, stop, axis, step in zip(first, last, along, by, strict=True):
        at = axis_of(axis, len(x.shape))
        size = x.shape[at]
        if step != 1:
            x = op.gather(x, _stepped(start, stop, step, size), axis=at)
            continue
        with _assuming(op):
            low, high = _bound(start, size), _bound(stop, size)
            high = high if _fits(low, high) else maximum(low, high)
        if (low, high) != (0, size):
            x = op.slice(x, axis=at, start=low, stop=high)
    return x


def _stepped(start: Dim, stop: Dim, step: int, size: Dim) -> X:
    """The indices of every `step`th of an axis, which counts as Python does."""
    if not (isinstance(start, int) and isinstance(stop, int) and isinstance(size, int)) or step == 0:
        raise ValueError(f"steps of {step} are supported along an axis of known size, not {size}")
    indices = range(size)[start:stop:step]
    if len(indices) > _STEPPED:
        raise ValueError(f"{len(indices)} steps of {step} are more than {_STEPPED}")
    return np.array(indices, "i8")


def _bound(d: Dim, size: Dim) -> Dim:
    """A slice's bound counted from the front and clamped to the axis, as ONNX does it."""
    if isinstance(d, int) and abs(d) >= _FAR:
        return size if d > 0 else 0
    if not _fits(0, d):
        # It counts from the end where it is negative, and there min(1, max(0, -d)) is 1.
        d = d + size if at_most(d, -1) else d + size * minimum(1, maximum(0, -d))
        d = d if _fits(0, d) else maximum(0, d)
    return d if _fits(d, size) else minimum(d, size)


def _fits(a: Dim, b: Dim) -> bool:
    """Whether a <= b. What fails only where a symbol is 0 is assumed: x[-1:] is one row, not as many as min(1, S)."""
    if guards.is_at_most(a, b) is None and at_most(_above_zero(a), _above_zero(b)):
        guards.assume_at_most(a, b, "slice")
    return guards.is_at_most(a, b) is True


def _above_zero(d: Dim) -> Dim:
    """The dimension with symbols that stand for integers >= 1."""
    return bind(d, {name: Sym(name) + 1 for name in symbols_of(d)})


@translates("Gather")
def gather(op: OnnxOps, x: X, indices: X, *, axis: int = 0) -> X:
    at = axis_of(axis, len(x.shape))
    _inside(op, indices, x.shape[at])
    return op.gather(x, indices, axis=at)


@translates("GatherElements")
def gather_elements(op: OnnxOps, x: X, indices: X, *, axis: int = 0) -> X:
    at = axis_of(axis, len(x.shape))
    _inside(op, indices, x.shape[at])
    return op.gather_elements(x, indices, axis=at)


@translates("GatherND")
def gather_nd(op: OnnxOps, x: X, indices: X, *, batch_dims: int = 0) -> X:
    if batch_dims:
        raise ValueError("batch_dims is not supported")
    if not isinstance(indices, Value):
        for i in range(indices.shape[-1]):
            _inside(op, indices[..., i], x.shape[i])
    return op.gather_nd(x, indices)


def _inside(op: OnnxOps, indices: X, size: Dim) -> None:
    """Indices that are known lie within an axis of this size, or are assumed to."""
    if not isinstance(indices, Value) and indices.dtype != object and indices.size:
        where = f"an index from {indices.min()} to {indices.max()} of an axis of {size}"
        with _assuming(op):
            guards.assume_at_most(max(int(indices.max()) + 1, -int(indices.min())), size, where)


def _assuming(op: OnnxOps) -> AbstractContextManager[None]:
    return guards.recording(op.graph.module.guards)
