"""Sines and cosines of f32, of which the inner part is f64: angles of positions are large.

x = n * pi/2 + r, |r| <= pi/4, n from the low bits of x * 2/pi + 1.5 * 2**52; then the Taylor series of r, to 1e-11.
"""

from __future__ import annotations

import math

from llvmlite import ir

from burnish.backends.kernels.simd.registers import call_llvm, elementwise, filled

__all__ = ["cos", "sin"]

F64, I64 = ir.DoubleType(), ir.IntType(64)
SHIFT = 1.5 * 2.0**52  # adding it leaves an integer in the low bits
HIGH, LOW = math.pi / 2, 6.123233995736766e-17  # pi/2, and what f64 leaves out of it


def _wave(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value, quarters: int) -> ir.Value:
    """sin(x + quarters * pi/2), rounded from f64 once."""
    wide, words = ir.VectorType(F64, vector.count), ir.VectorType(I64, vector.count)

    def fma(x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        return call_llvm(b, f"llvm.fma.v{vector.count}f64", wide, x, y, z)

    def series(z: ir.Value, first: int, last: int) -> ir.Value:
        """The sum of (-z)**((k - first) / 2) / k! up to k = last."""
        signs = [(-1.0) ** (i % 2) for i in range((last - first) // 2 + 1)]
        terms = [s / math.factorial(k) for s, k in zip(signs, range(first, last + 1, 2), strict=True)]
        p = filled(wide, terms[-1])
        for term in reversed(terms[:-1]):
            p = fma(p, z, filled(wide, term))
        return p

    x = b.fpext(x, wide)
    shifted = fma(x, filled(wide, 2 / math.pi), filled(wide, SHIFT))
    n = b.fsub(shifted, filled(wide, SHIFT))
    r = fma(n, filled(wide, -LOW), fma(n, filled(wide, -HIGH), x))
    z = b.fmul(r, r)
    sine, cosine = fma(b.fmul(r, z), b.fneg(series(z, 3, 11)), r), series(z, 0, 12)
    quadrant = b.add(b.bitcast(shifted, words), filled(words, quarters))
    odd = b.icmp_unsigned("!=", b.and_(quadrant, filled(words, 1)), filled(words, 0))
    sign = b.shl(b.and_(quadrant, filled(words, 2)), filled(words, 62))
    y = b.bitcast(b.xor(b.bitcast(b.select(odd, cosine, sine), words), sign), wide)
    return b.fptrunc(y, vector)


@elementwise()
def sin(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """sin(x), within 0.501 ulp for |x| < 2**51; NaN of what is not finite."""
    return _wave(b, vector, x, 0)


@elementwise()
def cos(b: ir.IRBuilder, vector: ir.VectorType, x: ir.Value) -> ir.Value:
    """cos(x), within 0.501 ulp for |x| < 2**51; NaN of what is not finite."""
    return _wave(b, vector, x, 1)
