"""Element by element: arithmetic, comparisons, activations, casts."""

from __future__ import annotations

import numpy as np

from burnish.ir.guards import broadcast
from burnish.ir.op import Array, Arrays, Op
from burnish.ir.types import NUMPY, Type, require


class _Binary(Op):
    """Two operands of one element type, broadcast."""

    elementwise = True
    reproducible = True

    def infer(self, a: Type, b: Type) -> Type:
        require(a.dtype == b.dtype, f"{self.name}: {a} and {b} differ in element type; casts are explicit")
        require(a.dtype in NUMPY, f"{self.name}: {a} is packed")
        return Type(a.dtype, broadcast(a.shape, b.shape, where=f"{self.name}({a}, {b})"))


class _Arithmetic(_Binary):
    def infer(self, a: Type, b: Type) -> Type:
        require(a.dtype != "bool", f"{self.name}: {a} is not a number")
        return super().infer(a, b)


class Add(_Arithmetic):
    """a + b"""

    commutative = True

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        return a + b


class Sub(_Arithmetic):
    """a - b"""

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        return a - b


class Mul(_Arithmetic):
    """a * b"""

    commutative = True

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        return a * b


class Div(_Arithmetic):
    """a / b; of integers the quotient rounded towards zero, 0 where b is 0"""

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        if a.dtype.kind not in "iu":
            return a / b
        safe = xp.where(b == 0, xp.ones_like(b), b)
        floor = a // safe
        quotient = floor + ((a != floor * safe) & ((a < 0) != (b < 0)))
        return xp.where(b == 0, xp.zeros_like(quotient), quotient)


class Mod(_Arithmetic):
    """a - floor(a / b) * b (Python's %); 0 where b is 0"""

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        safe = xp.where(b == 0, xp.ones_like(b), b)
        return xp.where(b == 0, xp.zeros_like(a), xp.mod(a, safe))


class Pow(_Arithmetic):
    """a ** b; of integers with b below 0 the power rounded towards zero, 0 for a = 0"""

    reproducible = False

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        if a.dtype.kind not in "iu":
            return xp.power(a, b)
        below = xp.where(xp.abs(a) == 1, xp.power(a, b & 1), xp.zeros_like(a))
        return xp.where(b < 0, below, xp.power(a, xp.maximum(b, 0)))


class Maximum(_Arithmetic):
    """The larger of a and b; NaN where either is"""

    commutative = True

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        return xp.maximum(a, b)


class Minimum(_Arithmetic):
    """The smaller of a and b; NaN where either is"""

    commutative = True

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        return xp.minimum(a, b)


class _Comparison(_Binary):
    def infer(self, a: Type, b: Type) -> Type:
        return super().infer(a, b).with_dtype("bool")


class Equal(_Comparison):
    """a == b"""

    commutative = True

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        return a == b


class Less(_Comparison):
    """a < b"""

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        return a < b


class LessOrEqual(_Comparison):
    """a <= b"""

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        return a <= b


class _Logical(_Binary):
    def infer(self, a: Type, b: Type) -> Type:
        require(a.dtype == "bool", f"{self.name}: {a} is not boolean")
        return super().infer(a, b)


class LogicalAnd(_Logical):
    """a and b"""

    commutative = True

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        return xp.logical_and(a, b)


class LogicalOr(_Logical):
    """a or b"""

    commutative = True

    def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
        return xp.logical_or(a, b)


class LogicalNot(Op):
    """not x"""

    elementwise = True
    reproducible = True

    def infer(self, x: Type) -> Type:
        require(x.dtype == "bool", f"logical_not: {x} is not boolean")
        return x

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.logical_not(x)


class Where(Op):
    """a where the condition holds, else b"""

    elementwise = True
    reproducible = True
    widen = False

    def infer(self, condition: Type, a: Type, b: Type) -> Type:
        require(condition.dtype == "bool", f"where: the condition {condition} is not boolean")
        require(a.dtype == b.dtype, f"where: {a} and {b} differ in element type")
        shape = broadcast(condition.shape, a.shape, b.shape, where=f"where({condition}, {a}, {b})")
        return Type(a.dtype, shape)

    def eval(self, xp: Arrays, condition: Array, a: Array, b: Array) -> Array:
        return xp.where(condition, a, b)


class Fma(Op):
    """a * b + c, rounded once (in f32 by way of f64, so that a second rounding is possible but rare)"""

    elementwise = True
    reproducible = True

    def infer(self, a: Type, b: Type, c: Type) -> Type:
        require(a.is_float, f"fma: {a} is not a float")
        require(a.dtype == b.dtype == c.dtype, f"fma: {a}, {b} and {c} differ in element type")
        return Type(a.dtype, broadcast(a.shape, b.shape, c.shape, where=f"fma({a}, {b}, {c})"))

    def eval(self, xp: Arrays, a: Array, b: Array, c: Array) -> Array:
        if a.dtype == NUMPY["f32"]:
            a, b, c = (x.astype("float64") for x in (a, b, c))
        return a * b + c


class _Unary(Op):
    elementwise = True

    def infer(self, x: Type) -> Type:
        require(x.dtype in NUMPY and x.dtype != "bool", f"{self.name}: {x} is not a plain number")
        return x


class _Float(_Unary):
    def infer(self, x: Type) -> Type:
        require(x.is_float, f"{self.name}: {x} is not a float")
        return x


class Neg(_Unary):
    """-x"""

    reproducible = True

    def eval(self, xp: Arrays, x: Array) -> Array:
        return -x


class Abs(_Unary):
    """|x|"""

    reproducible = True

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.abs(x)


class Sqrt(_Float):
    """The square root"""

    reproducible = True

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.sqrt(x)


class Rsqrt(_Float):
    """1 / sqrt(x)"""

    reproducible = True

    def eval(self, xp: Arrays, x: Array) -> Array:
        return 1 / xp.sqrt(x)


class Reciprocal(_Float):
    """1 / x"""

    reproducible = True

    def eval(self, xp: Arrays, x: Array) -> Array:
        return 1 / x


class Exp(_Float):
    """e ** x"""

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.exp(x)


class Log(_Float):
    """The natural logarithm"""

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.log(x)


class Cos(_Float):
    """The cosine of radians"""

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.cos(x)


class Sin(_Float):
    """The sine of radians"""

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.sin(x)


class Tanh(_Float):
    """The hyperbolic tangent"""

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.tanh(x)


class Erf(_Float):
    """The error function"""

    def eval(self, xp: Arrays, x: Array) -> Array:
        return _special(xp).erf(x)


class Sigmoid(_Float):
    """1 / (1 + e ** -x)"""

    def eval(self, xp: Arrays, x: Array) -> Array:
        return _special(xp).expit(x)


class Softplus(_Float):
    """log(1 + e ** x)"""

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.logaddexp(x, 0)


class Relu(_Float):
    """max(x, 0)"""

    reproducible = True

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.maximum(x, 0)


class Silu(_Float):
    """x * sigmoid(x)"""

    def eval(self, xp: Arrays, x: Array) -> Array:
        return x * _special(xp).expit(x)


class Gelu(_Float):
    """x * Phi(x), Phi the normal distribution function; `approximate="tanh"` is the formula of arXiv:1606.08415"""

    approximate: str = "none"

    def infer(self, x: Type) -> Type:
        require(self.approximate in ("none", "tanh"), f"gelu: approximate is none or tanh, not {self.approximate!r}")
        return super().infer(x)

    def eval(self, xp: Arrays, x: Array) -> Array:
        if self.approximate == "tanh":
            return 0.5 * x * (1 + xp.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
        return 0.5 * x * (1 + _special(xp).erf(x * 0.7071067811865476))


class Isnan(_Float):
    """Whether x is not a number"""

    reproducible = True

    def infer(self, x: Type) -> Type:
        return super().infer(x).with_dtype("bool")

    def eval(self, xp: Arrays, x: Array) -> Array:
        return xp.isnan(x)


class Cast(Op):
    """x as `to`. Floats to integers truncate; beyond the integer's range they saturate, and NaN becomes 0."""

    to: str
    elementwise = True
    reproducible = True
    widen = False

    def infer(self, x: Type) -> Type:
        require(x.dtype in NUMPY, f"cast: {x} is packed; dequantize is the op for it")
        require(self.to in NUMPY, f"cast: unknown element type {self.to!r}")
        return x.with_dtype(self.to)

    def eval(self, xp: Arrays, x: Array) -> Array:
        target = NUMPY[self.to]
        if target.kind in "iu" and x.dtype.kind not in "iub":
            limits = np.iinfo(target)
            wide = xp.nan_to_num(x.astype("float64"), nan=0.0)
            inside = xp.clip(wide, float(limits.min), float(limits.max)).astype(target)
            return xp.where(wide >= float(limits.max), xp.asarray(limits.max, target), inside)
        return x.astype(target)


def _special(xp: Arrays) -> Arrays:
    """scipy.special, or JAX's."""
    if xp is np:
        import scipy.special

        return scipy.special
    import jax.scipy.special

    return jax.scipy.special
