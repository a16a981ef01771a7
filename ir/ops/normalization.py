"""Normalisation over the last axis."""

from __future__ import annotations

from burnish.ir.op import Array, Arrays, Op
from burnish.ir.types import Type, require


class _Norm(Op):
    eps: float
    by_last_axis = True


class RmsNorm(_Norm):
    """x / sqrt(mean(x²) + eps) * (offset + w): x[…, H], w[H] (arXiv:1910.07467)"""

    offset: float = 0.0

    def infer(self, x: Type, w: Type) -> Type:
        good = x.is_float and w.is_float and x.rank >= 1 and w.shape == x.shape[-1:]
        require(good, f"rms_norm: {w} does not scale the last axis of {x}")
        return x

    def eval(self, xp: Arrays, x: Array, w: Array) -> Array:
        w = w + w.dtype.type(self.offset) if self.offset else w
        return x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + x.dtype.type(self.eps)) * w


class LayerNorm(_Norm):
    """(x - mean) / sqrt(variance + eps) * w + b: x[…, H], w[H], b[H] (arXiv:1607.06450)"""

    def infer(self, x: Type, w: Type, b: Type | None = None) -> Type:
        good = x.is_float and w.is_float and x.rank >= 1 and w.shape == x.shape[-1:]
        require(good, f"layer_norm: {w} does not scale the last axis of {x}")
        require(b is None or (b.is_float and b.shape == w.shape), f"layer_norm: {b} does not fit {w}")
        return x

    def eval(self, xp: Arrays, x: Array, w: Array, b: Array | None = None) -> Array:
        centred = x - xp.mean(x, axis=-1, keepdims=True)
        variance = xp.mean(centred * centred, axis=-1, keepdims=True)
        y = centred / xp.sqrt(variance + x.dtype.type(self.eps)) * w
        return y if b is None else y + b
