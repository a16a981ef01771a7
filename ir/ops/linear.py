"""Matrix products, and the table look-up that is one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from burnish.ir.guards import AtMost, assume_equal, broadcast
from burnish.ir.op import Array, Arrays, Axes, Op
from burnish.ir.ops.shape import within
from burnish.ir.state import Independent, Refused, Steps, beyond, by_along
from burnish.ir.types import FLOATS, Type, require

if TYPE_CHECKING:
    from burnish.ir.builder import Ops
    from burnish.ir.graph import Node


class Matmul(Op):
    """a @ b over the last two axes, the others broadcast; f32 accumulation"""

    kind = "matmul"

    def infer(self, a: Type, b: Type) -> Type:
        require(a.dtype == b.dtype and a.format is None, f"matmul: {a} and {b} differ in element type or are packed")
        require(a.rank >= 2 and b.rank >= 2, f"matmul: {a} and {b} need two axes")
        where = f"matmul({a}, {b})"
        assume_equal(a.shape[-1], b.shape[-2], where)
        return Type(a.dtype, (*broadcast(a.shape[:-2], b.shape[:-2], where=where), a.shape[-2], b.shape[-1]))

    def along(self, a: Type, b: Type) -> tuple[Axes, ...]:
        rank = max(a.rank, b.rank)
        return (*range(rank - a.rank, rank - 1), None), (*range(rank - b.rank, rank - 2), None, rank - 1)

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        return xp.matmul(a, b)


class Linear(Op):
    """x @ w.T + b: x[…, K], w[N, K], b[N] -> […, N].

    w may be stored in any float type or quantized, and x may be quantized; the result is of x's element type, or `to`.
    """

    to: str = ""
    kind = "linear"
    by_last_axis = True
    weight = "w"

    def infer(self, x: Type, w: Type, b: Type | None = None) -> Type:
        dtype = self.to or x.dtype
        require(dtype in FLOATS, f"linear: the result of {x} needs a float type; give `to`")
        require(w.rank == 2 and (w.is_float or w.format is not None), f"linear: {w} is not a matrix of weights")
        require(x.rank >= 1 and x.shape[-1] == w.shape[1], f"linear: {x} has not the inputs of {w}")
        good = b is None or (b.shape == w.shape[:1] and b.is_float)
        require(good, f"linear: {b} is not a bias for {w}")
        return Type(dtype, (*x.shape[:-1], w.shape[0]))

    def eval(self, xp: Arrays, x: Array, w: Array, b: Array | None = None) -> Array:
        rows = math.prod(x.shape[:-1])  # one product: BLAS starts its threads for each of a stack of small ones
        y = xp.matmul(x.reshape(rows, x.shape[-1]), xp.swapaxes(w, -1, -2)).reshape(*x.shape[:-1], w.shape[0])
        return y if b is None else y + b


class Embedding(Op):
    """Rows of w[V, H] at ids: i32[…] -> `to`[…, H]; negative ids and those out of bounds mean what they do to gather"""

    to: str = ""
    kind = "memory"
    widen = False
    planewise = True
    weight = "w"
    version = 2  # negative ids count from the end

    def infer(self, ids: Type, w: Type) -> Type:
        require(ids.is_integer, f"embedding: {ids} are not integers")
        require(w.rank == 2, f"embedding: {w} is not a table of rows")
        dtype = self.to or ("f32" if w.format is not None else w.dtype)
        require(dtype in FLOATS, f"embedding: {dtype} is not a float type")
        return Type(dtype, (*ids.shape, w.shape[1]))

    def along(self, ids: Type, w: Type) -> tuple[Axes, ...]:
        return tuple(range(ids.rank)), (None, ids.rank)

    def stateful(self, op: Ops, node: Node, state: Steps) -> Independent | Refused:
        """Of tokens themselves or their positions alone; a table of positions bounds how many tokens there may be."""
        if (below := beyond(node["ids"], state)) is not None:
            op.assume(AtMost(below, node["w"].shape[0]))
        return by_along(node, state)

    def eval(self, xp: Arrays, ids: Array, w: Array) -> Array:
        return xp.take(w, within(xp, ids, w.shape[0]), axis=0, mode="clip")
