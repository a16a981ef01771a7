"""Q4_0: 4 bits, groups of 32, one f16 scale."""

from __future__ import annotations

import numpy as np

from burnish.ir.format import Parts, QuantFormat, reciprocal
from burnish.ir.parts import Part


class Q4_0(QuantFormat):
    """w = scale * (code - 8), code in 0..15. Bytes and rounding are ggml's (`block_q4_0`)."""

    group = 32
    parts = (Part("scale", "f2"), Part("code", per="input", bits=4))
    zero = 8

    def quantize(self, x: np.ndarray) -> Parts:
        """The scale maps the value of largest magnitude to -8; codes round half up."""
        largest = np.take_along_axis(x, np.abs(x).argmax(axis=-1, keepdims=True), axis=-1)
        scale = largest / np.float32(-8)
        code = np.clip(np.trunc(x * reciprocal(scale) + np.float32(8.5)), 0, 15)
        return {"scale": scale.astype("f2"), "code": code.astype("u1")}
