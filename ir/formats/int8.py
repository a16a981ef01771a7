"""int8: 8 bits, one f32 scale an output channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from burnish.ir.format import Array, Field, Fields, QuantFormat


class Int8(QuantFormat):
    """w = d * q, symmetric, q in -127..127, one scale for a whole row (an output channel of a linear)."""

    group = 0
    fields = (Field("d", "f4"), Field("q", "i1", bits=8))

    def quantize(self, x: np.ndarray) -> Fields:
        """d = max|x| / 127; q rounds half to even."""
        d = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
        q = np.rint(np.divide(x, d, out=np.zeros_like(x), where=d != 0))
        return {"d": d, "q": q.clip(-127, 127).astype("i1")}

    def dequantize(self, xp: Any, fields: Fields) -> Array:
        """d * q."""
        return fields["d"] * fields["q"].astype("float32")
