"""Mixtures of experts: which experts a token chooses."""

from __future__ import annotations

from burnish.ir.guards import assume_at_most
from burnish.ir.op import Array, Arrays, Op
from burnish.ir.types import Type, require


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
