"""Reductions along axes, and what normalises along one."""

from __future__ import annotations

from burnish.ir.op import Array, Arrays, Axes, Op
from burnish.ir.types import NUMPY, Type, require


class _Reduction(Op):
    axes: tuple[int, ...]
    keepdims: bool = True

    def infer(self, x: Type) -> Type:
        require(x.dtype in NUMPY and x.dtype != "bool", f"{self.name}: {x} is not a plain number")
        axes = {x.axis(a) for a in self.axes}
        kept = ((i, d) for i, d in enumerate(x.shape) if self.keepdims or i not in axes)
        return x.with_shape(1 if i in axes else d for i, d in kept)

    def along(self, x: Type) -> tuple[Axes, ...]:
        axes = {x.axis(a) for a in self.axes}
        before = [sum(a < i for a in axes) * (not self.keepdims) for i in range(x.rank)]  # axes that are gone
        return (tuple(None if i in axes else i - n for i, n in enumerate(before)),)


class ReduceSum(_Reduction):
    """The sum over `axes`"""

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.sum(x, axis=self.axes, keepdims=self.keepdims)


class ReduceMean(_Reduction):
    """The mean over `axes`"""

    def infer(self, x: Type) -> Type:
        require(x.is_float, f"reduce_mean: {x} is not a float")
        return super().infer(x)

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.mean(x, axis=self.axes, keepdims=self.keepdims)


class ReduceMax(_Reduction):
    """The largest element over `axes`, of which none is empty"""

    reproducible = True

    def infer(self, x: Type) -> Type:
        require(all(x.shape[x.axis(a)] != 0 for a in self.axes), f"reduce_max: {x} has an empty axis among {self.axes}")
        return super().infer(x)

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.max(x, axis=self.axes, keepdims=self.keepdims)


class CumulativeSum(Op):
    """The running sum along `axis`, the element itself included"""

    axis: int

    def infer(self, x: Type) -> Type:
        require(x.dtype in NUMPY and x.dtype != "bool", f"cumulative_sum: {x} is not a plain number")
        x.axis(self.axis)
        return x

    def along(self, x: Type) -> tuple[Axes, ...]:
        return (tuple(None if i == x.axis(self.axis) else i for i in range(x.rank)),)

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.cumsum(x, axis=self.axis)


class Softmax(Op):
    """e ** x / sum(e ** x) along `axis`"""

    axis: int = -1

    def infer(self, x: Type) -> Type:
        require(x.is_float, f"softmax: {x} is not a float")
        x.axis(self.axis)
        return x

    def along(self, x: Type) -> tuple[Axes, ...]:
        return (tuple(None if i == x.axis(self.axis) else i for i in range(x.rank)),)

    def eval(self, xp: Arrays, x: Array) -> Array:
        e = xp.exp(x - xp.max(x, axis=self.axis, keepdims=True, initial=-xp.inf))
        return e / xp.sum(e, axis=self.axis, keepdims=True)
