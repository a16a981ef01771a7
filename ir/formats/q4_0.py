"""Q4_0: 4 bits, groups of 32, one f16 scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from burnish.ir.format import Array, Field, Fields, QuantFormat, reciprocal


class Q4_0(QuantFormat):
    """w = d * (q - 8), q in 0..15. Bytes and rounding are ggml's (`block_q4_0`): byte j holds inputs j and j + 16."""

    group = 32
    fields = (Field("d", "f2"), Field("q", "u1", bits=4))

    def quantize(self, x: np.ndarray) -> Fields:
        """d maps the value of largest magnitude to -8; q rounds half up."""
        largest = np.take_along_axis(x, np.abs(x).argmax(axis=-1, keepdims=True), axis=-1)
        d = largest / np.float32(-8)
        inverse = reciprocal(d)
        q = np.clip(np.trunc(x * inverse + np.float32(8.5)), 0, 15).astype("u1")
        return {"d": d.astype("f2"), "q": q[..., :16] | (q[..., 16:] << 4)}

    def dequantize(self, xp: Any, fields: Fields) -> Array:
        """d * (q - 8)."""
        q = xp.concatenate([fields["q"] & 15, fields["q"] >> 4], axis=-1).astype("int8") - xp.int8(8)
        return fields["d"].astype("float32") * q.astype("float32")
