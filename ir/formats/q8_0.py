"""Q8_0: 8 bits, groups of 32, one f16 scale."""

from __future__ import annotations

import numpy as np

from burnish.ir.format import Parts, QuantFormat, reciprocal
from burnish.ir.parts import Part


class Q8_0(QuantFormat):
    """w = scale * code, code in -127..127. Bytes and rounding are ggml's (`block_q8_0`, `quantize_row_q8_0_ref`)."""

    group = 32
    parts = (Part("scale", "f2"), Part("code", "i1", per="input"))

    def quantize(self, x: np.ndarray) -> Parts:
        """scale = max|x| / 127; codes round half away from zero."""
        scale = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
        scaled = x * reciprocal(scale)
        size = np.abs(scaled)
        whole = np.floor(size)
        code = np.sign(scaled) * (whole + np.floor(2 * (size - whole)))  # size + 0.5 would round 0.49999997 up
        return {"scale": scale.astype("f2"), "code": code.astype("i1")}
