"""Q8_0: 8 bits, groups of 32, one f16 scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from burnish.ir.format import Array, Field, Fields, QuantFormat, reciprocal


class Q8_0(QuantFormat):
    """w = d * q, q in -127..127. Bytes and rounding are ggml's (`block_q8_0`, `quantize_row_q8_0_ref`)."""

    group = 32
    fields = (Field("d", "f2"), Field("q", "i1", bits=8))

    def quantize(self, x: np.ndarray) -> Fields:
        """d = max|x| / 127; q rounds half away from zero."""
        d = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
        inverse = reciprocal(d)
        scaled = x * inverse
        size = np.abs(scaled)
        whole = np.floor(size)
        q = np.sign(scaled) * (whole + np.floor(2 * (size - whole)))  # size + 0.5 would round 0.49999997 up
        return {"d": d.astype("f2"), "q": q.astype("i1")}

    def dequantize(self, xp: Any, fields: Fields) -> Array:
        """d * q."""
        return fields["d"].astype("float32") * fields["q"].astype("float32")
