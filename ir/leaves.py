"""The ops of a graph's ends: weights and constants, which read nothing, and the return, which makes nothing."""

from __future__ import annotations

from typing import Any

from burnish.ir.literal import Literal
from burnish.ir.op import Op
from burnish.ir.types import InferError, Type

__all__ = ["Constant", "Return", "Weight"]


class Weight(Op):
    """A leaf: the tensor of that name in the module's table."""

    tensor: str
    kind = "memory"
    reproducible = True

    def infer(self) -> Type:
        """Its type is the table's."""
        raise InferError("a weight's type comes from its module")


class Constant(Op):
    """A leaf: a value that is part of the graph."""

    value: Literal
    kind = "memory"
    reproducible = True
    widen = False

    def infer(self) -> Type:
        """The literal's own type."""
        return Type(self.value.dtype, self.value.shape)

    def eval(self, xp: Any) -> Any:
        """The literal's data."""
        return xp.asarray(self.value.data)


class Return(Op):
    """A graph's outputs: leaving the graph is a use like any other."""

    kind = "memory"

    def infer(self, *values: Type) -> tuple[Type, ...]:
        """No results."""
        return ()
