"""What each ONNX operator means in our ops: one small function each, found by its entry in one table.

A function takes `op`, then the node's inputs (None where one is left out; NumPy arrays where they are known), then its
attributes by name. An attribute that it does not name is not supported. It returns a value, or a tuple of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import reduce
from typing import Any

import numpy as np

from burnish.frontends.known import KnownOps, known_dims, type_of
from burnish.ir import guards
from burnish.ir.dims import Dim, Sym, at_most, bind, maximum, minimum, symbols_of
from burnish.ir.graph import Value
from burnish.ir.literal import number_text
from burnish.ir.ops.shape import Reshape as ReshapeOp
from burnish.ir.ops.shape import Transpose
from burnish.ir.registry import Registry

__all__ = ["DTYPES", "TRANSLATIONS", "translates"]

X = Any  # Value, or a known array
Translation = Callable[..., Any]
TRANSLATIONS: Registry[Translation] = Registry("translation of the ONNX operator")

# TensorProto.DataType
DTYPES = {1: "f32", 2: "u8", 3: "i8", 4: "u16", 5: "i16", 6: "i32", 7: "i64", 9: "bool"}
DTYPES |= {10: "f16", 11: "f64", 12: "u32", 13: "u64", 16: "bf16"}
_FAR = (1 << 31) - 1  # slices to "the end" are written with the largest number, of i64 or of i32


def translates(*names: str, replace: bool = False) -> Callable[[Translation], Translation]:
    """Enter a function as the meaning of the operators called `names`."""

    def enter(function: Translation) -> Translation:
        for name in names:
            TRANSLATIONS.add(name, function, replace)
        return function

    return enter


def _same(name: str) -> Translation:
    def translation(op: KnownOps, *operands: X) -> X:
        return getattr(op, name)(*operands)

    return translation


# Those that are one of ours, operand by operand.
for _theirs, _ours in {
    "Abs": "abs",
    "Add": "add",
    "And": "logical_and",
    "Cos": "cos",
    "Div": "div",
    "Equal": "equal",
    "Erf": "erf",
    "Exp": "exp",
    "IsNaN": "isnan",
    "Less": "less",
    "LessOrEqual": "less_or_equal",
    "Log": "log",
    "Mul": "mul",
    "Neg": "neg",
    "Not": "logical_not",
    "Or": "logical_or",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Sin": "sin",
    "Sqrt": "sqrt",
    "Sub": "sub",
    "Tanh": "tanh",
    "Where": "where",
}.items():
    translates(_theirs)(_same(_ours))


# ------------------------------------------------------------------------------------------------ element by element


@translates("Identity")
def identity(op: KnownOps, x: X) -> X:
    return x


@translates("Cast")
def cast(op: KnownOps, x: X, *, to: int, saturate: int = 1) -> X:
    if to not in DTYPES:
        raise ValueError(f"element type {to} is not supported")
    return op.cast(x, to=DTYPES[to])


@translates("Pow")
def pow_(op: KnownOps, a: X, b: X) -> X:
    return op.pow(a, op.cast(b, to=type_of(a).dtype))


@translates("Greater")
def greater(op: KnownOps, a: X, b: X) -> X:
    return op.less(b, a)


@translates("GreaterOrEqual")
def greater_or_equal(op: KnownOps, a: X, b: X) -> X:
    return op.less_or_equal(b, a)


@translates("Max")
def max_(op: KnownOps, *xs: X) -> X:
    return reduce(op.maximum, xs)


@translates("Min")
def min_(op: KnownOps, *xs: X) -> X:
    return reduce(op.minimum, xs)


@translates("Gelu")
def gelu(op: KnownOps, x: X, *, approximate: str = "none") -> X:
    return op.gelu(x, approximate=approximate)


# ---------------------------------------------------------------------------------------------------- along an axis


@translates("Softmax")
def softmax(op: KnownOps, x: X, *, axis: int = -1) -> X:
    return op.softmax(x, axis=_from_end(x, axis))


@translates("CumSum")
def cumsum(op: KnownOps, x: X, axis: X, *, exclusive: int = 0, reverse: int = 0) -> X:
    if exclusive or reverse:
        raise ValueError("exclusive and reverse are not supported")
    return op.cumulative_sum(x, axis=_integers(axis, "axis")[0])


def _reduction(name: str) -> Translation:
    def translation(op: KnownOps, x: X, axes: X = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> X:
        given = () if axes is None else _integers(axes, "axes")
        if not given and noop_with_empty_axes:
            return x
        every = given or tuple(range(_rank(x)))
        return getattr(op, name)(x, axes=tuple(_from_end(x, a) for a in every), keepdims=bool(keepdims))

    return translation


translates("ReduceMax")(_reduction("reduce_max"))
translates("ReduceMean")(_reduction("reduce_mean"))
translates("ReduceSum")(_reduction("reduce_sum"))


@translates("LayerNormalization")
def layer_norm(
    op: KnownOps, x: X, w: X, b: X = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> X:
    if _from_end(x, axis) != -1:
        raise ValueError(f"axis {axis} is not the last one")
    return op.layer_norm(x, w, b, eps=float(number_text(np.float32(epsilon), "f32")))


# ----------------------------------------------------------------------------------------------------------- products


@translates("MatMul")
def matmul(op: KnownOps, a: X, b: X) -> X:
    turned = isinstance(b, Value) and b.node is not None and isinstance(b.op, Transpose)
    if turned and b.type.rank == 2 and b.node["x"].is_weight:
        return op.linear(a, b.node["x"])  # a parameter that was stored the other way round
    return op.matmul(a, b)


@translates("Gemm")
def gemm(
    op: KnownOps, a: X, b: X, c: X = None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> X:
    if (alpha, beta) != (1.0, 1.0):
        raise ValueError(f"alpha={alpha} and beta={beta} are not supported")
    a, b = (op.transpose(x, perm=(1, 0)) if turn else x for x, turn in ((a, transA), (b, transB)))
    y = matmul(op, a, b)
    return y if c is None else op.add(y, c)


# -------------------------------------------------------------------------------------------------------------- shapes


@translates("Shape")
def shape(op: KnownOps, x: X, *, start: int = 0, end: int | None = None) -> X:
    dims = np.empty(_rank(x), object)
    dims[:] = x.shape
    return op.cast(dims[start:end], to="i64") if dims[start:end].size else np.zeros(0, "i8")


@translates("Constant")
def constant(
    op: KnownOps,
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
def constant_of_shape(op: KnownOps, shape: X, *, value: X = None) -> X:
    number = np.zeros((), "f4") if value is None else value.reshape(())
    return op.broadcast_to(number, shape=known_dims(shape, "shape"))


@translates("Range")
def range_(op: KnownOps, start: X, limit: X, delta: X) -> X:
    (first,), (last,), (step,) = (known_dims(x, "bound") for x in (start, limit, delta))
    if step != 1 or limit.dtype.kind == "f":
        raise ValueError("only a range of integers in steps of 1 is supported")
    with _assuming(op):
        size = last - first if _fits(first, last) else maximum(last - first, 0)
    steps = op.iota(size=size, dtype="i64")
    return steps if first == 0 else op.add(steps, start.reshape(()))


@translates("Reshape")
def reshape(op: KnownOps, x: X, shape: X, *, allowzero: int = 0) -> X:
    dims = [x.shape[i] if d == 0 and not allowzero else d for i, d in enumerate(known_dims(shape, "shape"))]
    sizes = ReshapeOp(shape=tuple(dims)).infer(type_of(x)).shape  # a -1 resolved
    return op.reshape(x, shape=sizes)


@translates("Squeeze")
def squeeze(op: KnownOps, x: X, axes: X = None) -> X:
    if axes is None:
        if not all(isinstance(d, int) for d in x.shape):
            raise ValueError(f"without axes, the rank of the result would depend on the sizes of {type_of(x)}")
        return op.squeeze(x, axes=tuple(i for i, d in enumerate(x.shape) if d == 1))
    return op.squeeze(x, axes=tuple(sorted(_axis(a, _rank(x)) for a in _integers(axes, "axes"))))


@translates("Unsqueeze")
def unsqueeze(op: KnownOps, x: X, axes: X) -> X:
    added = _integers(axes, "axes")
    return op.unsqueeze(x, axes=tuple(sorted(_axis(a, _rank(x) + len(added)) for a in added)))


@translates("Transpose")
def transpose(op: KnownOps, x: X, *, perm: tuple[int, ...] | None = None) -> X:
    return op.transpose(x, perm=tuple(reversed(range(_rank(x)))) if perm is None else perm)


@translates("Expand")
def expand(op: KnownOps, x: X, shape: X) -> X:
    dims = known_dims(shape, "shape")
    with _assuming(op):
        wanted = guards.broadcast(x.shape, dims, where=f"expand({list(x.shape)}, {list(dims)})")
    return x if wanted == tuple(x.shape) else op.broadcast_to(x, shape=wanted)


@translates("Concat")
def concat(op: KnownOps, *xs: X, axis: int) -> X:
    return op.concat(*xs, axis=_from_end(xs[0], axis))


@translates("Split")
def split(op: KnownOps, x: X, sizes: X = None, *, axis: int = 0, num_outputs: int | None = None) -> X:
    at = _axis(axis, _rank(x))
    if sizes is None:
        whole = x.shape[at]
        if num_outputs is None or num_outputs < 1:
            raise ValueError("its sizes must be given")
        part = (whole + num_outputs - 1) // num_outputs
        parts: tuple[Dim, ...] = (part,) * (num_outputs - 1) + (whole - part * (num_outputs - 1),)
    else:
        parts = known_dims(sizes, "sizes")
    made = op.split(x, axis=at, sizes=parts)
    return tuple(made)


@translates("Slice")
def slice_(op: KnownOps, x: X, starts: X, ends: X, axes: X = None, steps: X = None) -> X:
    first, last = known_dims(starts, "starts"), known_dims(ends, "ends")
    along = range(len(first)) if axes is None else _integers(axes, "axes")
    if steps is not None and set(_integers(steps, "steps")) != {1}:
        raise ValueError("steps other than 1 are not supported")
    for start, stop, axis in zip(first, last, along, strict=True):
        at = _axis(axis, _rank(x))
        size = x.shape[at]
        with _assuming(op):
            low, high = _bound(start, size), _bound(stop, size)
            high = high if _fits(low, high) else maximum(low, high)
        if (low, high) != (0, size):
            x = op.slice(x, axis=at, start=low, stop=high)
    return x


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
def gather(op: KnownOps, x: X, indices: X, *, axis: int = 0) -> X:
    at = _axis(axis, _rank(x))
    _inside(op, indices, x.shape[at])
    return op.gather(x, indices, axis=at)


@translates("GatherElements")
def gather_elements(op: KnownOps, x: X, indices: X, *, axis: int = 0) -> X:
    at = _axis(axis, _rank(x))
    _inside(op, indices, x.shape[at])
    return op.gather_elements(x, indices, axis=at)


@translates("GatherND")
def gather_nd(op: KnownOps, x: X, indices: X, *, batch_dims: int = 0) -> X:
    if batch_dims:
        raise ValueError("batch_dims is not supported")
    if not isinstance(indices, Value):
        for i in range(indices.shape[-1]):
            _inside(op, indices[..., i], x.shape[i])
    return op.gather_nd(x, indices)


def _inside(op: KnownOps, indices: X, size: Dim) -> None:
    """Indices that are known lie within an axis of this size, or are assumed to."""
    if not isinstance(indices, Value) and indices.dtype != object and indices.size:
        where = f"an index from {indices.min()} to {indices.max()} of an axis of {size}"
        with _assuming(op):
            guards.assume_at_most(max(int(indices.max()) + 1, -int(indices.min())), size, where)


def _assuming(op: KnownOps) -> AbstractContextManager[None]:
    return guards.recording(op.graph.module.guards)


def _rank(x: X) -> int:
    return len(x.shape)


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"there is no axis {axis} among {rank}")
    return axis % rank


def _from_end(x: X, axis: int) -> int:
    """The axis, as -1 where it is the last: the form that our ops' defaults and patterns use."""
    at = _axis(axis, _rank(x))
    return -1 if at == _rank(x) - 1 else at


def _integers(x: X, what: str) -> tuple[int, ...]:
    dims = known_dims(x, what)
    if not all(isinstance(d, int) for d in dims):
        raise ValueError(f"its {what} must be numbers")
    return tuple(d for d in dims if isinstance(d, int))
