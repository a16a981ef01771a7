"""Ops over values that may be known while a file is read: shape arithmetic that leaves no tensors behind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from burnish.ir.builder import Ops
from burnish.ir.dims import Dim, DimError, Sym, at_most, maximum, minimum, operation
from burnish.ir.evaluate import evaluate
from burnish.ir.graph import Graph, Value
from burnish.ir.guards import is_at_most, recording
from burnish.ir.op import Op
from burnish.ir.origin import Origin
from burnish.ir.types import NUMPY, Type, dtype_name

__all__ = ["Known", "KnownOps", "known_dims", "type_of"]

Known = np.ndarray  # with objects as elements where one of them is a symbolic dimension; those count as i64
_LARGEST = 1 << 16  # elements that are computed here; more is left in the graph
_MOST_SIZES = 256  # of them where one is a symbolic dimension: each is algebra, and a node where it is data
_SYMBOLIC = "add sub mul neg div maximum minimum cast concat slice gather".split()
_SYMBOLIC += "squeeze unsqueeze reshape transpose broadcast_to equal less less_or_equal where".split()


class KnownOps(Ops):
    """Ops of which an operand may be an array: what follows from known operands alone is computed, and known again.

    Arithmetic and views work on symbolic dimensions too. A known operand beside one that is not becomes a constant.
    Nodes belong to `scope` and to `source`, a name that no other source has.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.place, self.source, self.count = "", "", 0

    def at_source(self, scope: str, source: str) -> None:
        """What is made from now on comes from here."""
        self.place, self.source, self.count = scope, source, 0

    def origin(self, op: Op) -> Origin:
        """The current source; a second node made from it gets a number."""
        self.count += 1
        return Origin(self.place, (self.source if self.count == 1 else f"{self.source}.{self.count}",))

    def values(self, operands: Sequence[Any]) -> list[Any]:
        """Operands, with Python numbers made into arrays of the others' element type."""
        dtype = next((type_of(v).dtype for v in operands if isinstance(v, Value | Known)), "f32")
        return [v if v is None or isinstance(v, Value | Known) else np.array(v, NUMPY[dtype]) for v in operands]

    def emit(self, op: Op, inputs: Sequence[Any], bodies: Sequence[Graph] = ()) -> Any:
        """The result of `op`: known where it follows from what is known, else a new node's. Raises InferError."""
        if any(isinstance(v, Known) and v.dtype == object for v in inputs):  # a size that was cast to i32 is i64 yet
            inputs = [v.astype("i8") if isinstance(v, Known) and v.dtype == np.int32 else v for v in inputs]
        if inputs and all(v is None or isinstance(v, Known) for v in inputs):
            with recording(self.graph.module.guards, extend=False):  # a size that is known to be the smaller is it
                results = _compute(op, inputs)
            if results is not None:
                return results[0] if len(results) == 1 else results
        dtypes = [v.dtype for v in inputs if isinstance(v, Value) and v.type.is_integer]
        dtype = dtypes[0] if dtypes and op.elementwise else "i64"
        return super().emit(op, [self.lift(v, dtype) for v in inputs], bodies)

    def lift(self, value: Value | Known | None, dtype: str = "i64") -> Value | None:
        """The value in the graph; sizes are of `dtype` there, whatever they were cast to while they were known."""
        if value is None or isinstance(value, Value):
            return value
        if value.dtype != object:
            return self.constant(value)
        elements = [self._number(d) for d in value.ravel().tolist()]
        joined = elements[0] if len(elements) == 1 else self.concat(*elements, axis=0)
        joined = joined if dtype == "i64" else self.cast(joined, to=dtype)
        return joined if value.ndim == 1 else self.reshape(joined, shape=value.shape)

    def _number(self, d: Dim) -> Value:
        """i64[1] that holds a dimension, computed from those of its symbols: only these are counted up to."""
        if isinstance(d, int):
            return self.constant(np.array([d], "i8"))
        if d.is_plain:  # the last of 0, 1, …, d
            return self.slice(self.iota(size=d + 1, dtype="i64"), axis=0, start=d, stop=d + 1)
        function, parts = operation(d)
        numbers = [self._number(x) for x in parts]
        if function == "floordiv":
            a, b = numbers
            return self.div(self.sub(a, self.mod(a, b)), b)
        return reduce(getattr(self, function), numbers)


def known_dims(value: Value | Known | None, what: str) -> tuple[Dim, ...]:
    """The elements of a known vector or number. Raises ValueError for what is only known at run time."""
    if not isinstance(value, Known):
        raise ValueError(f"its {what} must be known from shapes and constants")
    return tuple(d if isinstance(d, Sym) else int(d) for d in value.ravel().tolist())


def type_of(value: Value | Known) -> Type:
    """The type, of a known array too."""
    if isinstance(value, Value):
        return value.type
    return Type("i64" if value.dtype == object else dtype_name(value.dtype), value.shape)


def _compute(op: Op, inputs: Sequence[Known | None]) -> tuple[Known, ...] | None:
    if op.symbols or not op.reproducible:
        return None
    types = op.results(*(None if v is None else type_of(v) for v in inputs))
    if sum(int(np.prod(t.sizes, dtype=object)) for t in types) > _LARGEST:
        return None
    given = [v for v in inputs if v is not None]
    if not any(v.dtype == object for v in given):
        with np.errstate(all="ignore"):  # a root of a negative number is NaN here as it is at run time
            return evaluate(op, np, inputs, [t.dtype for t in types])
    if sum(int(np.prod(t.sizes, dtype=object)) for t in types) > _MOST_SIZES:
        return None
    if op.name not in _SYMBOLIC or any(t.dtype not in ("i64", "i32", "bool") for t in types):
        return None
    match op.name:
        case "div" | "maximum" | "minimum" | "equal" | "less" | "less_or_equal":
            results = _ELEMENTS[op.name](*given)
            if None in np.ravel(results).tolist():
                return None
        case "cast" if types[0].dtype == "bool":
            return None
        case "cast":
            results = given[0]
        case "gather" if given[1].dtype == object:
            return None
        case "where" if given[0].dtype == object:
            return None
        case _:
            with np.errstate(invalid="ignore"):  # the algebra of dimensions leaves flags behind
                results = op.eval(np, *given)
    return (_settled(np.asarray(results, object), types[0].dtype),)


def _quotient(a: Dim, b: Dim) -> Dim | None:
    """a / b rounded towards zero; None where the sign of b depends on the sizes."""
    if b == 0:
        raise DimError(f"{a} divided by zero")
    if at_most(b, 0):
        a, b = -a, -b
    if not at_most(0, b):
        return None
    return a // b if at_most(0, a) else maximum(a, 0) // b - maximum(-a, 0) // b


def _equal(a: Dim, b: Dim) -> bool | None:
    """Whether they are the same number at every size (True), at none (False), or at some (None)."""
    return True if a == b else False if at_most(a + 1, b) or at_most(b + 1, a) else None


_ELEMENTS = {
    "equal": np.frompyfunc(_equal, 2, 1),
    "less": np.frompyfunc(lambda a, b: at_most(a + 1, b), 2, 1),
    "less_or_equal": np.frompyfunc(at_most, 2, 1),
    "div": np.frompyfunc(_quotient, 2, 1),
    "maximum": np.frompyfunc(lambda a, b: b if is_at_most(a, b) else a if is_at_most(b, a) else maximum(a, b), 2, 1),
    "minimum": np.frompyfunc(lambda a, b: a if is_at_most(a, b) else b if is_at_most(b, a) else minimum(a, b), 2, 1),
}


def _settled(array: Known, dtype: str) -> Known:
    """An array of objects as one of numbers, if they all are."""
    plain = not any(isinstance(d, Sym) for d in array.ravel().tolist())
    return array.astype("?" if dtype == "bool" else "i8") if plain else array
