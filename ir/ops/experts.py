"""Mixtures of experts: which experts a token chooses, and products with those that it chose."""

from __future__ import annotations

import numpy as np

from burnish.ir.box import cut, whole
from burnish.ir.format import Packed
from burnish.ir.guards import assume_at_most, assume_equal
from burnish.ir.op import Array, Arrays, Axes, Op
from burnish.ir.types import FLOATS, Type, require


class TopK(Op):
    """The k largest of x[…, N], largest first, those that are equal by their place: values […, k], places i32[…, k]"""

    k: int
    by_last_axis = True

    def infer(self, x: Type) -> tuple[Type, Type]:
        require(x.rank and (x.is_float or x.is_integer), f"top_k: {x} is not a vector of numbers")
        require(self.k > 0, f"top_k: {self.k} are none")
        assume_at_most(self.k, x.shape[-1], f"top_k: {self.k} of {x}")
        shape = (*x.shape[:-1], self.k)
        return Type(x.dtype, shape), Type("i32", shape)

    def eval(self, xp: Arrays, x: Array) -> tuple[Array, Array]:
        order = xp.flip(x.shape[-1] - 1 - xp.argsort(xp.flip(x, -1), axis=-1, stable=True), -1)
        places = order[..., : self.k]
        return xp.take_along_axis(x, places, axis=-1), places.astype("int32")


class ExpertLinear(Op):
    """x[…, j, :] @ w[e].T + b[e], e = chosen[…, j]: x[…, k, K], or x[…, 1, K] for all k, chosen[…, k] -> […, k, N].

    w[E, N, K] may be stored in any float type or quantized: it is widened, or unpacked, an expert at a time; b[E, N].
    x may be quantized too; the result is of x's element type, or `to`. Choices out of bounds mean the nearest.
    """

    to: str = ""
    kind = "linear"
    weight = "w"
    widen = False
    takes_packed = True

    def infer(self, x: Type, w: Type, chosen: Type, b: Type | None = None) -> Type:
        where = f"expert_linear({x}, {w}, {chosen})"
        dtype = self.to or x.dtype
        require(dtype in FLOATS, f"{where}: the result needs a float type; give `to`")
        for t in (x, w):
            require(t.is_float or t.format is not None, f"{where}: {t} are not floats, nor quantized")
        require(chosen.is_integer, f"{where}: choices are not integers")
        good = w.rank == 3 and x.rank == chosen.rank + 1 >= 2 and x.shape[-1] == w.shape[-1]
        require(good, f"{where}: expected x[…, k, K] or x[…, 1, K], w[E, N, K] and chosen[…, k]")
        for given, asked in zip(x.shape[:-2], chosen.shape[:-1], strict=True):
            assume_equal(given, asked, where)
        if x.shape[-2] != 1:
            assume_equal(x.shape[-2], chosen.shape[-1], where)
        fits = b is None or (b.is_float and b.shape == w.shape[:2])
        require(fits, f"{where}: a bias {b} is not one of each output of each expert")
        return Type(dtype, (*chosen.shape, w.shape[1]))

    def along(self, x: Type, w: Type, chosen: Type, *b: Type | None) -> tuple[Axes, ...]:
        last = x.rank - 1
        biases = (() if t is None else (None, last) for t in b)
        return (*range(last), None), (None, last, None), tuple(range(chosen.rank)), *biases

    def eval(self, xp: Arrays, x: Array, w: Array, chosen: Array, b: Array | None = None) -> Array:
        experts, outputs, inputs = w.shape
        rows = xp.broadcast_to(_floats(xp, x), (*chosen.shape, inputs)).reshape(-1, inputs)
        choices = xp.clip(chosen, 0, experts - 1).reshape(-1)
        y = xp.zeros((len(choices), outputs), rows.dtype)
        for expert in np.unique(choices).tolist() if xp is np else range(experts):
            mine = choices == expert
            matrix = cut(w, (slice(expert, expert + 1), *whole(w.shape[1:])))
            matrix = _floats(xp, matrix)[0].T
            if xp is np:
                y[mine] = rows[mine] @ matrix
            else:
                y = xp.where(mine[:, None], rows @ matrix, y)
        y = y if b is None else y + _floats(xp, xp.take(b, choices, axis=0))
        return y.reshape(*chosen.shape, outputs)


def _floats(xp: Arrays, x: Array) -> Array:
    x = x.dequantize(xp) if isinstance(x, Packed) else x
    return x.astype("float32") if x.dtype.itemsize < 4 else x
