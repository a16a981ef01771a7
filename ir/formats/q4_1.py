"""Q4_1: 4 bits, groups of 32, an f16 scale and an f16 minimum."""

from __future__ import annotations

import numpy as np

from burnish.ir.format import Parts, QuantFormat, reciprocal
from burnish.ir.parts import Part


class Q4_1(QuantFormat):
    """w = scale * code + minimum, code in 0..15. Bytes and rounding are ggml's (`block_q4_1`)."""

    group = 32
    parts = (Part("scale", "f2"), Part("minimum", "f2"), Part("code", per="input", bits=4))

    def quantize(self, x: np.ndarray) -> Parts:
        """15 steps from the least to the greatest; codes round half up."""
        least = x.min(axis=-1, keepdims=True)
        scale = (x.max(axis=-1, keepdims=True) - least) / np.float32(15)
        code = np.clip(np.trunc((x - least) * reciprocal(scale) + np.float32(0.5)), 0, 15)
        return {"scale": scale.astype("f2"), "minimum": least.astype("f2"), "code": code.astype("u1")}
