"""Functions of one f32 or two: each writes the code for one register (`elementwise()` makes an operation of it).

What models have most is computed in f32, by Cephes' polynomials (www.netlib.org/cephes) and ones fitted to the error
function; the rest in f64, or as a sum of two f32, so that the result is the nearest f32 but for what is almost a tie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from llvmlite import ir

from burnish.backends.kernels.simd.floats import emit_exp, emit_sigmoid
from burnish.backends.kernels.simd.registers import call_llvm, filled

__all__ = [
    "REGISTERS", "cos", "erf", "exp", "gelu", "gelu_tanh", "log", "pow", "sigmoid", "silu", "sin", "softplus", "tanh",
]  # fmt: skip

REGISTERS = 2  # that a value fills: side by side, for alone each waits for its own results
F32, F64, I32, I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)

# Coefficients, that of the highest power first. Of f32:
#: erf(x) = x + x P(x²) below SMALL, and log(1 - erf(x)) = x Q(x) from there to 4
ERF = (-5.9539924e-4, 4.9860007e-3, -2.6761772e-2, 1.1281685e-1, -3.7612480e-1, 1.2837915e-1)
ERF_LOG = (-1.1231841e-5, 3.2280900e-4, -3.6424790e-3, 2.3762103e-2, -1.0623692e-1, -6.3515127e-1, -1.1286485)
SMALL = 0.925
#: tanh(x) = x + x**3 P(x²) below NEAR, of Cephes' tanhf; e**2r, |r| up to ln(2) / 4, within 2**-28
TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
NEAR = 0.625
EXP_DOUBLE = (8.845439553e-2, 2.677974701e-1, 6.666921973e-1, 1.333321691, 1.999999762, 2.0, 1.0)
# Of f64: sin(r) / r by r², |r| up to π / 2 + 0.1, within 2**-42
SIN = (
    1.5324421917097365e-10, -2.5024019343363158e-8, 2.7556786770428766e-6, -1.9841264702993917e-4,
    8.333333310347961e-3, -1.6666666666320448e-1, 1.0,
)  # fmt: skip
# log(x * c) for x from 17/24 to 17/12 is near 0, c one of INVERSES by eighths of what x can be: of as few bits that
# x * c - 1 is exact. log(1 + r) = r - r² / 2 + r**3 P(r) there, within 2**-32.
LEAST, INVERSES = 0x3F355555, (1.375, 1.25, 1.125, 1.0625, 1.0, 0.90625, 0.8125, 0.75)
LOG = (-1.671495885e-1, 2.006448507e-1, -2.499995977e-1, 3.333326876e-1)
# Of f64: log2(1 + r) / r there, within 2**-41; 2**f, |f| up to ½, within 2**-34
LOG2 = (
    -1.81563374047410547e-1, 2.07315159817511585e-1, -2.40445792548303394e-1, 2.88536233267700115e-1,
    -3.60673763487629584e-1, 4.80898348761979788e-1, -7.21347520443773815e-1, 1 / math.log(2),
)  # fmt: skip
EXP2 = (
    1.51961318261957130e-5, 1.54667817101216212e-4, 1.33339353669875943e-3, 9.61803805891813662e-3,
    5.55041036537665330e-2, 2.40226510670093540e-1, 6.93147180704769217e-1, 1.0,
)  # fmt: skip
# Taylor's alone: of e**r; of atanh(f) / f by f² up to 1 / 9
E = [1 / math.factorial(k) for k in range(11, -1, -1)]
ATANH = [1 / (2 * k + 1) for k in range(14, -1, -1)]
PI_REST = 1.2246467991473532e-16  # π = math.pi + this, to 106 bits


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

    def integer(self, x: ir.Value, factor: float = 1.0) -> tuple[ir.Value, ir.Value]:
        """The nearest integer to x * factor, of at most 51 bits, or 22 of f32: as a float and as an integer."""
        shifted = self.call("fma", x, self.number(factor), self.number(self.magic))
        low = self.b.sub(self.b.bitcast(shifted, self.words), self.b.bitcast(self.number(self.magic), self.words))
        return self.b.fsub(shifted, self.number(self.magic)), low


def where_all(
    b: ir.IRBuilder, condition: ir.Value, usual: Callable[[], ir.Value], otherwise: Callable[[], ir.Value]
) -> ir.Value:
    """What `usual` writes code for, where the condition holds in every lane, or else what `otherwise` does.

    For a lane where it holds both have to give the same.
    """
    lanes = condition.type.count
    every = b.icmp_unsigned("==", b.bitcast(condition, ir.IntType(lanes)), ir.IntType(lanes)(2**lanes - 1))
    found = []
    with b.if_else(every, likely=True) as branches:
        for branch, emit in zip(branches, (usual, otherwise), strict=True):
            with branch:
                found.append((emit(), b.block))
    phi = b.phi(found[0][0].type)
    for value, block in found:
        phi.add_incoming(value, block)
    return phi


def _wide(builder: ir.IRBuilder, *registers: ir.Value) -> tuple[Numbers, list[ir.Value]]:
    n = Numbers(builder, F64, registers[0].type.count)
    return n, [builder.fpext(x, n.vector) for x in registers]


def _exp64(n: Numbers, x: ir.Value) -> ir.Value:
    """e**x, of x from -200 to 200, or as if it were the nearest of these."""
    b, x = n.b, n.within(x, -200.0, 200.0)
    power, exponent = n.integer(x, 1 / math.log(2))
    r = n.call("fma", power, n.number(-math.log(2)), x)
    scale = b.shl(b.add(exponent, filled(n.words, 1023)), filled(n.words, 52))
    return b.fmul(n.polynomial(r, E), b.bitcast(scale, n.vector))


def _wave(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, ahead: float) -> ir.Value:
    """The sine of x + so many halves of a turn."""
    n, (wide,) = _wide(b, x)
    turns = n.call("fma", wide, n.number(1 / math.pi), n.number(ahead)) if ahead else wide
    whole, halves = n.integer(turns, 1.0 if ahead else 1 / math.pi)
    whole = b.fsub(whole, n.number(ahead))
    r = n.call("fma", whole, n.number(-PI_REST), n.call("fma", whole, n.number(-math.pi), wide))
    square = b.fmul(r, r)
    y = b.fmul(r, n.polynomial(square, SIN))
    sign = b.shl(halves, filled(n.words, 63))
    y = b.bitcast(b.xor(b.bitcast(y, n.words), sign), n.vector)
    return Numbers(b, F32, vector.count).within(b.fptrunc(y, vector), -1.0, 1.0)


def exp(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """e**x, to the ends of f32."""
    return emit_exp(b, vector, x, whole=True)


def sigmoid(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """1 / (1 + e**-x)."""
    return emit_sigmoid(b, vector, x)


def log(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """The natural logarithm."""
    n = Numbers(b, F32, vector.count)

    def any_number() -> ir.Value:
        y = _log(n, *_normal(n, x))
        y = n.where(x, "<", n.number(math.inf), y, x)  # inf and NaN are their own
        y = n.where(x, "==", n.number(0.0), n.number(-math.inf), y)
        return n.where(x, "<", n.number(0.0), n.number(math.nan), y)

    return where_all(b, _is_normal(n, x), lambda: _log(n, x, filled(n.words, 0)), any_number)


def _is_normal(n: Numbers, x: ir.Value) -> ir.Value:
    """Whether it is above 0, and neither infinite nor less than the smallest normal number."""
    b, bits = n.b, n.b.bitcast(x, n.words)
    least, infinite = filled(n.words, 1 << 23), filled(n.words, 255 << 23)
    return b.and_(b.icmp_signed(">=", bits, least), b.icmp_signed("<", bits, infinite))


def _normal(n: Numbers, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """y and k, x = y * 2**k: y is normal if x is above 0 and finite."""
    b, small = n.b, n.b.fcmp_ordered("<", x, n.number(2.0**-126))
    return b.select(small, b.fmul(x, n.number(2.0**23)), x), b.select(small, filled(n.words, -23), filled(n.words, 0))


def _parts(n: Numbers, x: ir.Value, exponent: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """k, c and r: x * 2**exponent = 2**k (1 + r) / c, c the one of INVERSES that its low three bits count."""
    b, bits = n.b, n.b.bitcast(x, n.words)
    above = b.sub(bits, filled(n.words, LEAST))
    power, index = b.ashr(above, filled(n.words, 23)), b.lshr(above, filled(n.words, 20))
    m = b.bitcast(b.sub(bits, b.shl(power, filled(n.words, 23))), n.vector)
    r = n.call("fma", m, _of_eight(b, index, INVERSES), n.number(-1.0))
    return b.sitofp(b.add(power, exponent), n.vector), index, r


def _logs(of: Callable[[float], float]) -> tuple[list[float], list[float]]:
    """Of 1 / c, c one of INVERSES: 16 bits behind the point, and the rest."""
    short = [round(of(1 / c) * 2**16) / 2**16 for c in INVERSES]
    return short, [of(1 / c) - y for c, y in zip(INVERSES, short, strict=True)]


def _log(n: Numbers, x: ir.Value, exponent: ir.Value) -> ir.Value:
    """log(x * 2**exponent), x a positive normal number of f32: a sum whose terms are the larger the earlier."""
    b, half = n.b, n.number(-0.5)
    (whole, index, r), (short, left) = _parts(n, x, exponent), _logs(math.log)
    ln2 = round(math.log(2) * 2**16) / 2**16
    sure = n.call("fma", whole, n.number(ln2), _of_eight(b, index, short))  # exact
    square, first = b.fmul(r, r), b.fadd(sure, r)
    second = n.call("fma", half, square, first)
    rest = n.call("fma", whole, n.number(math.log(2) - ln2), _of_eight(b, index, left))
    rest = b.fadd(rest, b.fsub(r, b.fsub(first, sure)))
    rest = b.fadd(rest, n.call("fma", half, square, b.fsub(first, second)))
    rest = n.call("fma", half, n.call("fma", r, r, b.fneg(square)), rest)
    rest = n.call("fma", b.fmul(square, r), n.polynomial(r, LOG), rest)
    return b.fadd(second, rest)


def _log2(n: Numbers, x: ir.Value, exponent: ir.Value) -> ir.Value:
    """log2(x * 2**exponent) in f64, x a positive normal number of f32."""
    (whole, index, r), (short, left) = _parts(n, x, exponent), _logs(math.log2)
    wide, (sure, rest, r) = _wide(n.b, n.b.fadd(whole, _of_eight(n.b, index, short)), _of_eight(n.b, index, left), r)
    return n.b.fadd(sure, wide.call("fma", r, wide.polynomial(r, LOG2), rest))


def _of_eight(b: ir.IRBuilder, index: ir.Value, numbers: Sequence[float]) -> ir.Value:
    """Eight numbers, each lane's by the low three bits of its index, which fill REGISTERS registers."""
    lanes = index.type.count // REGISTERS
    register = ir.VectorType(F32, lanes)
    table = ir.Constant(register, [float(np.float32(x)) for x in [*numbers] * (lanes // 8)])
    parts = []
    for i in range(REGISTERS):
        part = _lanes(b, index, index, range(i * lanes, (i + 1) * lanes))
        if lanes == 16:
            parts.append(call_llvm(b, "llvm.x86.avx512.permvar.sf.512", register, table, part))
        else:
            parts.append(call_llvm(b, "llvm.x86.avx2.permps", register, table, part))
    return _lanes(b, parts[0], parts[-1], range(index.type.count))


def _lanes(b: ir.IRBuilder, x: ir.Value, y: ir.Value, which: Iterable[int]) -> ir.Value:
    order = [I32(i) for i in which]
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(order)), order))


def pow(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, y: ir.Value) -> ir.Value:
    """x**y, and what C's pow says of zeros, infinities, and numbers below 0."""
    f = Numbers(b, F32, vector.count)
    n, (power,) = _wide(b, y)
    zero, one = f.number(0.0), f.number(1.0)

    def any_number() -> ir.Value:
        size = f.call("fabs", x)
        log = _log2(f, *_normal(f, size))
        log = b.select(b.fcmp_ordered("<", size, f.number(math.inf)), log, b.fpext(size, n.vector))
        log = b.select(b.fcmp_ordered("==", size, zero), n.number(-math.inf), log)
        exponent = b.select(b.fcmp_ordered("==", size, one), n.number(0.0), b.fmul(power, log))
        result = b.fptrunc(_exp2(n, exponent), vector)
        rest = b.fsub(y, b.fmul(f.number(2.0), f.call("rint", b.fmul(y, f.number(0.5)))))
        odd = b.fcmp_ordered("==", f.call("fabs", rest), one)
        below = b.icmp_signed("<", b.bitcast(x, f.words), filled(f.words, 0))
        result = b.select(b.and_(odd, below), b.fneg(result), result)
        no_integer = b.fcmp_unordered("!=", f.call("rint", y), y)
        finite_below = b.and_(b.fcmp_ordered("<", x, zero), b.fcmp_ordered(">", x, f.number(-math.inf)))
        result = b.select(b.and_(no_integer, finite_below), f.number(math.nan), result)
        return f.where(x, "==", one, one, f.where(y, "==", zero, one, result))

    usual = b.and_(_is_normal(f, x), b.fcmp_ordered("<", f.call("fabs", y), f.number(math.inf)))
    return where_all(
        b, usual, lambda: b.fptrunc(_exp2(n, b.fmul(power, _log2(f, x, filled(f.words, 0)))), vector), any_number
    )


def _exp2(n: Numbers, x: ir.Value) -> ir.Value:
    """2**x, of x from -200 to 200, or as if it were the nearest of these."""
    b, x = n.b, n.within(x, -200.0, 200.0)
    whole, exponent = n.integer(x)
    bits = b.bitcast(n.polynomial(b.fsub(x, whole), EXP2), n.words)
    return b.bitcast(b.add(bits, b.shl(exponent, filled(n.words, 52))), n.vector)


def sin(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """The sine of radians; of more than 2**50 some number from -1 to 1."""
    return _wave(b, vector, x, 0.0)


def cos(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """The cosine of radians; of more than 2**50 some number from -1 to 1."""
    return _wave(b, vector, x, 0.5)


def softplus(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """log(1 + e**x)."""
    n, (wide,) = _wide(b, x)
    e = _exp64(n, b.fneg(n.call("fabs", wide)))
    f = b.fdiv(e, b.fadd(e, n.number(2.0)))
    log1p = b.fmul(b.fadd(f, f), n.polynomial(b.fmul(f, f), ATANH))
    return b.fptrunc(b.fadd(n.where(wide, ">", n.number(0.0), wide, n.number(0.0)), log1p), vector)


def tanh(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """The hyperbolic tangent, 1 - 2 / (e**2|x| + 1) where that is exact enough."""
    n = Numbers(b, F32, vector.count)
    one, square, size = n.number(1.0), b.fmul(x, x), n.call("fabs", x)
    small = n.call("fma", b.fmul(square, n.polynomial(square, TANH)), x, x)
    far = n.where(size, ">", n.number(10.0), n.number(10.0), size)  # of 10 it is 1
    whole, power = n.integer(far, 2 / math.log(2))
    r = n.call("fma", whole, n.number(-math.log(2) / 2), far)
    scale = b.bitcast(b.shl(b.add(power, filled(n.words, 127)), filled(n.words, 23)), vector)
    above = n.call("fma", n.polynomial(r, EXP_DOUBLE), scale, one)
    large = b.fsub(one, b.fdiv(n.number(2.0), above))
    return n.where(size, "<", n.number(NEAR), small, n.call("copysign", large, x))


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
