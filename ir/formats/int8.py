"""int8: 8 bits, one f32 scale an output channel."""

from __future__ import annotations

import numpy as np

from burnish.ir.format import Parts, QuantFormat
from burnish.ir.parts import Part


class Int8(QuantFormat):
    """w = scale * code, symmetric, code in -127..127, one scale for a whole row (an output channel of a linear)."""

    group = 0
    parts = (Part("scale", "f4"), Part("code", "i1", per="input"))

    def quantize(self, x: np.ndarray) -> Parts:
        """scale = max|x| / 127; codes round half to even."""
        scale = np.abs(x).max(axis=-1, keepdims=True, initial=0) / np.float32(127)
        code = np.rint(np.divide(x, scale, out=np.zeros_like(x), where=scale != 0))
        return {"scale": scale, "code": code.clip(-127, 127).astype("i1")}
