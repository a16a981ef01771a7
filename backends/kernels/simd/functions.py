"""Functions of one f32 or two: each writes the code for one register (`elementwise()` makes an operation of it).

What is hot is computed in f32, by Cephes' polynomials (www.netlib.org/cephes) and ones fitted to the error function;
the rest in f64 by plain series, so that the result is the nearest f32 but for what is almost a tie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from llvmlite import ir

from burnish.backends.kernels.simd.floats import emit_exp, emit_sigmoid
from burnish.backends.kernels.simd.registers import call_llvm, filled

__all__ = ["cos", "erf", "exp", "gelu", "gelu_tanh", "log", "pow", "sigmoid", "silu", "sin", "softplus", "tanh"]

F32, F64, I32, I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)

# Coefficients, that of the highest power first. Of f32:
TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)  # Cephes' tanhf
#: erf(x) = x + x P(x²) below SMALL, and log(1 - erf(x)) = x Q(x) from there to 4
ERF = (-5.9539924e-4, 4.9860007e-3, -2.6761772e-2, 1.1281685e-1, -3.7612480e-1, 1.2837915e-1)
ERF_LOG = (-1.1231841e-5, 3.2280900e-4, -3.6424790e-3, 2.3762103e-2, -1.0623692e-1, -6.3515127e-1, -1.1286485)
SMALL = 0.925
# Of f64, Taylor's: of e**r; of sin(r) / r and cos(r) by r², |r| up to π / 4; of atanh(f) / f by f² up to 1 / 9
E = [1 / math.factorial(k) for k in range(11, -1, -1)]
SIN = [(-1) ** k / math.factorial(2 * k + 1) for k in range(7, -1, -1)]
COS = [(-1) ** k / math.factorial(2 * k) for k in range(7, -1, -1)]
ATANH = [1 / (2 * k + 1) for k in range(14, -1, -1)]
HALF_PI, HALF_PI_REST = math.pi / 2, 6.123233995736766e-17  # their sum is π / 2 to 106 bits


class Numbers:
    """Writes the code for registers of one type, `vector`: of f32, or f64."""

    def __init__(self, builder: ir.IRBuilder, element: ir.Type, lanes: int) -> None:
        self.b, self.vector = builder, ir.VectorType(element, lanes)
        self.is_f32 = element == F32
        self.words = ir.VectorType(I32 if self.is_f32 else I64, lanes)
        self.magic = 1.5 * 2.0 ** (23 if self.is_f32 else 52)  # added, it leaves the nearest integer in the low bits

    def number(self, value: float) -> ir.Value:
        """It, in every lane."""
        return filled(self.vector, float(np.float32(value)) if self.is_f32 else value)

    def call(self, name: str, *operands: ir.Value) -> ir.Value:
        """LLVM's function of that name."""
        kind = "f32" if self.is_f32 else "f64"
        return call_llvm(self.b, f"llvm.{name}.v{self.vector.count}{kind}", self.vector, *operands)

    def polynomial(self, x: ir.Value, coefficients: Sequence[float]) -> ir.Value:
        """Of x."""
        p = self.number(coefficients[0])
        for c in coefficients[1:]:
            p = self.call("fma", p, x, self.number(c))
        return p

    def where(self, x: ir.Value, comparison: str, y: ir.Value, then: ir.Value, otherwise: ir.Value) -> ir.Value:
        """`then` where x and y compare so, which a NaN never does."""
        return self.b.select(self.b.fcmp_ordered(comparison, x, y), then, otherwise)

    def within(self, x: ir.Value, low: float, high: float) -> ir.Value:
        """The nearest number to x from `low` to `high`; a NaN stays."""
        least, most = self.number(low), self.number(high)
        x = self.where(x, "<", least, least, x)
        return self.where(x, ">", most, most, x)

    def integer(self, x: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The nearest integer to x, of at most 51 bits: as a float and as an integer."""
        shifted = self.b.fadd(x, self.number(self.magic))
        low = self.b.sub(self.b.bitcast(shifted, self.words), self.b.bitcast(self.number(self.magic), self.words))
        return self.b.fsub(shifted, self.number(self.magic)), low


def _wide(builder: ir.IRBuilder, *registers: ir.Value) -> tuple[Numbers, list[ir.Value]]:
    n = Numbers(builder, F64, registers[0].type.count)
    return n, [builder.fpext(x, n.vector) for x in registers]


def _exp64(n: Numbers, x: ir.Value) -> ir.Value:
    """e**x, of x from -200 to 200, or as if it were the nearest of these."""
    b, x = n.b, n.within(x, -200.0, 200.0)
    power, exponent = n.integer(b.fmul(x, n.number(1 / math.log(2))))
    r = n.call("fma", power, n.number(-math.log(2)), x)
    scale = b.shl(b.add(exponent, filled(n.words, 1023)), filled(n.words, 52))
    return b.fmul(n.polynomial(r, E), b.bitcast(scale, n.vector))


def _log64(n: Numbers, x: ir.Value) -> ir.Value:
    """log(x) of what was an f32; -inf of 0, NaN below."""
    b, least = n.b, int(np.float64(math.sqrt(0.5)).view(np.int64))
    bits = b.bitcast(x, n.words)
    exponent = b.ashr(b.sub(bits, filled(n.words, least)), filled(n.words, 52))
    m = b.bitcast(b.sub(bits, b.shl(exponent, filled(n.words, 52))), n.vector)  # from √½ to √2
    whole = b.fsub(b.bitcast(b.add(exponent, b.bitcast(n.number(n.magic), n.words)), n.vector), n.number(n.magic))
    f = b.fdiv(b.fsub(m, n.number(1.0)), b.fadd(m, n.number(1.0)))
    series = b.fmul(b.fadd(f, f), n.polynomial(b.fmul(f, f), ATANH[-9:]))
    y = n.call("fma", whole, n.number(math.log(2)), series)
    y = n.where(x, "<", n.number(math.inf), y, x)  # inf and NaN are their own
    y = n.where(x, "==", n.number(0.0), n.number(-math.inf), y)
    return n.where(x, "<", n.number(0.0), n.number(math.nan), y)


def _turned(builder: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, quarters: int) -> ir.Value:
    """The sine of x + so many quarters of a turn."""
    n, (wide,) = _wide(builder, x)
    b, one = builder, filled(n.words, 1)
    whole, quarter = n.integer(b.fmul(wide, n.number(2 / math.pi)))
    r = n.call("fma", whole, n.number(-HALF_PI), wide)
    r = n.within(n.call("fma", whole, n.number(-HALF_PI_REST), r), -1.0, 1.0)
    square = b.fmul(r, r)
    sine, cosine = b.fmul(r, n.polynomial(square, SIN)), n.polynomial(square, COS)
    quarter = b.add(quarter, filled(n.words, quarters))
    y = b.select(b.icmp_signed("==", b.and_(quarter, one), one), cosine, sine)
    two = filled(n.words, 2)
    return b.fptrunc(b.select(b.icmp_signed("==", b.and_(quarter, two), two), b.fneg(y), y), vector)


def exp(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """e**x, to the ends of f32."""
    return emit_exp(b, vector, x, whole=True)


def sigmoid(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """1 / (1 + e**-x)."""
    return emit_sigmoid(b, vector, x)


def log(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """The natural logarithm."""
    n, (wide,) = _wide(b, x)
    return b.fptrunc(_log64(n, wide), vector)


def pow(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """x**y, and what C's pow says of zeros, infinities, and numbers below 0."""
    n, (base, power) = _wide(b, x, y)
    zero, one = n.number(0.0), n.number(1.0)
    size = n.call("fabs", base)
    exponent = n.where(size, "==", one, zero, b.fmul(power, _log64(n, size)))
    result = _exp64(n, exponent)
    rest = b.fsub(power, b.fmul(n.number(2.0), n.call("rint", b.fmul(power, n.number(0.5)))))
    odd = b.fcmp_ordered("==", n.call("fabs", rest), one)
    below = b.icmp_signed("<", b.bitcast(base, n.words), filled(n.words, 0))
    result = b.select(b.and_(odd, below), b.fneg(result), result)
    no_integer = b.fcmp_unordered("!=", n.call("rint", power), power)
    finite_below = b.and_(b.fcmp_ordered("<", base, zero), b.fcmp_ordered(">", base, n.number(-math.inf)))
    result = b.select(b.and_(no_integer, finite_below), n.number(math.nan), result)
    result = n.where(base, "==", one, one, n.where(power, "==", zero, one, result))
    return b.fptrunc(result, vector)


def sin(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """The sine of radians; of more than 2**50 some number from -1 to 1."""
    return _turned(b, vector, x, 0)


def cos(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """The cosine of radians; of more than 2**50 some number from -1 to 1."""
    return _turned(b, vector, x, 1)


def softplus(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """log(1 + e**x)."""
    n, (wide,) = _wide(b, x)
    e = _exp64(n, b.fneg(n.call("fabs", wide)))
    f = b.fdiv(e, b.fadd(e, n.number(2.0)))
    log1p = b.fmul(b.fadd(f, f), n.polynomial(b.fmul(f, f), ATANH))
    return b.fptrunc(b.fadd(n.where(wide, ">", n.number(0.0), wide, n.number(0.0)), log1p), vector)


def tanh(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """The hyperbolic tangent."""
    n = Numbers(b, F32, vector.count)
    one, two = n.number(1.0), n.number(2.0)
    size, square = n.call("fabs", x), b.fmul(x, x)
    small = n.call("fma", b.fmul(square, n.polynomial(square, TANH)), x, x)
    large = b.fsub(one, b.fdiv(two, b.fadd(one, emit_exp(b, vector, b.fmul(two, size), whole=True))))
    return n.where(size, "<", n.number(0.625), small, n.call("copysign", large, x))


def erf(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """The error function."""
    n = Numbers(b, F32, vector.count)
    size = n.within(n.call("fabs", x), 0.0, 4.0)
    small = n.call("fma", n.polynomial(b.fmul(x, x), ERF), x, x)
    rest = emit_exp(b, vector, b.fmul(size, n.polynomial(size, ERF_LOG)), whole=False)
    return n.where(size, "<", n.number(SMALL), small, n.call("copysign", b.fsub(n.number(1.0), rest), x))


def silu(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """x / (1 + e**-x), rounded as x * sigmoid(x) is."""
    return b.fmul(x, emit_sigmoid(b, vector, x))


def gelu(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """x * Phi(x), Phi by the error function; the error is that of Phi times x."""
    n = Numbers(b, F32, vector.count)
    phi = b.fadd(n.number(1.0), erf(b, vector, b.fmul(x, n.number(math.sqrt(0.5)))))
    return b.fmul(b.fmul(n.number(0.5), x), phi)


def gelu_tanh(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """The formula of arXiv:1606.08415, whose (1 + tanh(u)) / 2 is sigmoid(2 u)."""
    n = Numbers(b, F32, vector.count)
    cube = b.fmul(b.fmul(x, x), x)
    double = b.fmul(n.number(2 * math.sqrt(2 / math.pi)), n.call("fma", n.number(0.044715), cube, x))
    return b.fmul(x, emit_sigmoid(b, vector, double))
