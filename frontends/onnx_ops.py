"""What each ONNX operator means in our ops: one small function each, found by its entry in one table.

A function takes `op`, then the node's inputs (None where one is left out; NumPy arrays where they are known), then its
attributes by name. An attribute that it does not name is not supported. It returns a value, or a tuple of them.

One function reads every version of its operator, from `OLDEST` to `NEWEST`. What was an attribute and became an input,
such as the axes of a sum, is a parameter of that name: Python takes it either way. Where the meaning itself changed,
the function asks `op.version`. `onnx_shapes.py` has the operators on shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from burnish.frontends.known import KnownOps, known_dims, type_of
from burnish.ir.dims import Dim
from burnish.ir.graph import Graph, Value
from burnish.ir.literal import number_text
from burnish.ir.ops.shape import Transpose
from burnish.ir.registry import Registry

__all__ = ["DTYPES", "NEWEST", "OLDEST", "TRANSLATIONS", "OnnxOps", "X"]
__all__ += ["axis_of", "dims_of", "from_end", "integers", "translates"]

#: versions of the operators: since the oldest, arithmetic broadcasts as NumPy does; none is known after the newest
OLDEST, NEWEST = 7, 28
X = Any  # Value, or a known array
Translation = Callable[..., Any]
TRANSLATIONS: Registry[Translation] = Registry("translation of the ONNX operator")

# TensorProto.DataType
DTYPES = {1: "f32", 2: "u8", 3: "i8", 4: "u16", 5: "i16", 6: "i32", 7: "i64", 9: "bool"}
DTYPES |= {10: "f16", 11: "f64", 12: "u32", 13: "u64", 16: "bf16"}


class OnnxOps(KnownOps):
    """Ops, as a file's nodes are translated: in one version of the operators."""

    def __init__(self, graph: Graph, version: int = NEWEST) -> None:
        super().__init__(graph)
        self.version = version
        self.results = 1  # that the current node has


def translates(*names: str, replace: bool = False) -> Callable[[Translation], Translation]:
    """Enter a function as the meaning of the operators called `names`."""

    def enter(function: Translation) -> Translation:
        for name in names:
            TRANSLATIONS.add(name, function, replace)
        return function

    return enter


def axis_of(axis: int, rank: int) -> int:
    """The axis, counted from the front. Raises ValueError."""
    if not -rank <= axis < rank:
        raise ValueError(f"there is no axis {axis} among {rank}")
    return axis % rank


def from_end(x: X, axis: int) -> int:
    """The axis, as -1 where it is the last: the form that our ops' defaults and patterns use. Raises ValueError."""
    at = axis_of(axis, len(x.shape))
    return -1 if at == len(x.shape) - 1 else at


def dims_of(x: X, what: str) -> tuple[Dim, ...]:
    """Known sizes, from an input or an attribute. Raises ValueError."""
    return x if isinstance(x, tuple) else known_dims(x, what)


def integers(x: X, what: str) -> tuple[int, ...]:
    """The same of numbers alone. Raises ValueError."""
    dims = dims_of(x, what)
    if not all(isinstance(d, int) for d in dims):
        raise ValueError(f"its {what} must be numbers")
    return tuple(d for d in dims if isinstance(d, int))


def _same(name: str) -> Translation:
    def translation(op: OnnxOps, *operands: X) -> X:
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
    "Neg": "neg",
    "Not": "logical_not",
    "Or": "logical_or",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Sin": "sin",
    "Softplus": "softplus",
    "Sqrt": "sqrt",
    "Sub": "sub",
    "Tanh": "tanh",
    "Where": "where",
}.items():
    translates(_theirs)(_same(_ours))


# ------------------------------------------------------------------------------------------------ element by element


@translates("Identity")
def identity(op: OnnxOps, x: X) -> X:
    return x


@translates("Dropout")
def dropout(op: OnnxOps, x: X, ratio: X = None, training_mode: X = None, *, seed: int = 0) -> tuple[X, X]:
    if training_mode is not None and any(integers(training_mode, "training_mode")):
        raise ValueError("training_mode is not supported")
    return x, op.broadcast_to(np.array(True), shape=tuple(x.shape))


@translates("Cast")
def cast(op: OnnxOps, x: X, *, to: int, saturate: int = 1, round_mode: str = "up") -> X:
    if to not in DTYPES:
        raise ValueError(f"element type {to} is not supported")
    return op.cast(x, to=DTYPES[to])


@translates("Mul")
def mul(op: OnnxOps, a: X, b: X) -> X:
    for x, y in ((a, b), (b, a)):
        one = isinstance(x, Value) and not isinstance(y, Value) and y.size == 1 and y.item() == 1
        if one and len(y.shape) <= x.type.rank and type_of(y).dtype == x.dtype:
            return x  # a scale that is not used, as exporters leave it
    return op.mul(a, b)


@translates("Pow")
def pow_(op: OnnxOps, a: X, b: X) -> X:
    type, exponent = type_of(a), type_of(b)
    if exponent.is_float and not type.is_float:  # 2 ** 0.5 is 1, and not 2 ** 0
        return op.cast(op.pow(op.cast(a, to=exponent.dtype), b), to=type.dtype)
    return op.pow(a, op.cast(b, to=type.dtype))


@translates("Mod")
def mod(op: OnnxOps, a: X, b: X, *, fmod: int = 0) -> X:
    if fmod or type_of(a).is_float:
        raise ValueError("only the remainder of integers that has the sign of the divisor is supported")
    return op.mod(a, b)


@translates("Greater")
def greater(op: OnnxOps, a: X, b: X) -> X:
    return op.less(b, a)


@translates("GreaterOrEqual")
def greater_or_equal(op: OnnxOps, a: X, b: X) -> X:
    return op.less_or_equal(b, a)


@translates("Xor")
def xor(op: OnnxOps, a: X, b: X) -> X:
    return op.logical_not(op.equal(a, b))


@translates("Max")
def max_(op: OnnxOps, *xs: X) -> X:
    return reduce(op.maximum, xs)


@translates("Min")
def min_(op: OnnxOps, *xs: X) -> X:
    return reduce(op.minimum, xs)


@translates("Sum")
def sum_(op: OnnxOps, *xs: X) -> X:
    return reduce(op.add, xs)


@translates("Mean")
def mean(op: OnnxOps, *xs: X) -> X:
    return op.div(sum_(op, *xs), float(len(xs)))


@translates("Clip")
def clip(op: OnnxOps, x: X, min: X = None, max: X = None) -> X:
    x = x if min is None else op.maximum(x, min)
    return x if max is None else op.minimum(x, max)


@translates("Gelu")
def gelu(op: OnnxOps, x: X, *, approximate: str = "none") -> X:
    return op.gelu(x, approximate=approximate)


@translates("Swish")
def swish(op: OnnxOps, x: X, *, alpha: float = 1.0) -> X:
    return op.silu(x) if alpha == 1 else op.mul(x, op.sigmoid(op.mul(x, alpha)))


# ---------------------------------------------------------------------------------------------------- along an axis


@translates("Softmax")
def softmax(op: OnnxOps, x: X, *, axis: int | None = None) -> X:
    return _of_rows(op, op.softmax, x, axis)


@translates("LogSoftmax")
def log_softmax(op: OnnxOps, x: X, *, axis: int | None = None) -> X:
    def of_row(x: X, axis: int) -> X:
        y = op.sub(x, op.reduce_max(x, axes=(axis,), keepdims=True))
        return op.sub(y, op.log(op.reduce_sum(op.exp(y), axes=(axis,), keepdims=True)))

    return _of_rows(op, of_row, x, axis)


def _of_rows(op: OnnxOps, f: Callable[..., X], x: X, axis: int | None) -> X:
    """f along an axis. Before version 13, a row was all that lies along `axis` and those behind it."""
    at = from_end(x, axis if axis is not None else -1 if op.version >= 13 else 1)
    if op.version >= 13 or at == -1:
        return f(x, axis=at)
    rows = op.reshape(x, shape=(*x.shape[:at], -1))
    return op.reshape(f(rows, axis=-1), shape=tuple(x.shape))


@translates("CumSum")
def cumsum(op: OnnxOps, x: X, axis: X, *, exclusive: int = 0, reverse: int = 0) -> X:
    if exclusive or reverse:
        raise ValueError("exclusive and reverse are not supported")
    return op.cumulative_sum(x, axis=axis_of(integers(axis, "axis")[0], len(x.shape)))


def _reduction(of: Callable[..., X]) -> Translation:
    def translation(op: OnnxOps, x: X, axes: X = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> X:
        given = () if axes is None else integers(axes, "axes")
        every = given if given or noop_with_empty_axes else tuple(range(len(x.shape)))
        return of(op, x, axes=tuple(from_end(x, a) for a in every), keepdims=bool(keepdims))

    return translation


translates("ReduceMax")(_reduction(lambda op, x, **along: op.reduce_max(x, **along)))
translates("ReduceMean")(_reduction(lambda op, x, **along: op.reduce_mean(x, **along)))
translates("ReduceSum")(_reduction(lambda op, x, **along: op.reduce_sum(x, **along)))
translates("ReduceSumSquare")(_reduction(lambda op, x, **along: op.reduce_sum(op.mul(x, x), **along)))
translates("ReduceL2")(_reduction(lambda op, x, **along: op.sqrt(op.reduce_sum(op.mul(x, x), **along))))


@translates("LayerNormalization")
def layer_norm(
    op: OnnxOps, x: X, w: X, b: X = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> X:
    return op.layer_norm(x, w, b, eps=_eps(x, axis, epsilon))


@translates("RMSNormalization")
def rms_norm(op: OnnxOps, x: X, w: X, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> X:
    return op.rms_norm(x, w, eps=_eps(x, axis, epsilon))


def _eps(x: X, axis: int, epsilon: float) -> float:
    """The number that the file's author wrote, of a norm along the last axis."""
    if from_end(x, axis) != -1:
        raise ValueError(f"axis {axis} is not the last one")
    return float(number_text(np.float32(epsilon), "f32"))


# ----------------------------------------------------------------------------------------------------------- products


@translates("MatMul")
def matmul(op: OnnxOps, a: X, b: X) -> X:
    turned = isinstance(b, Value) and b.node is not None and isinstance(b.op, Transpose)
    if turned and b.type.rank == 2 and b.node["x"].is_weight:
        return op.linear(a, b.node["x"])  # a parameter that was stored the other way round
    return op.matmul(a, b)


@translates("Gemm")
def gemm(
    op: OnnxOps, a: X, b: X, c: X = None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> X:
    if (alpha, beta) != (1.0, 1.0):
        raise ValueError(f"alpha={alpha} and beta={beta} are not supported")
    a, b = (op.transpose(x, perm=(1, 0)) if turn else x for x, turn in ((a, transA), (b, transB)))
    y = matmul(op, a, b)
    return y if c is None else op.add(y, c)
