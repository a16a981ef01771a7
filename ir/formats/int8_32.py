"""int8_32: 8 bits, groups of 32, one f32 scale: what activations are quantized to."""

from __future__ import annotations

from typing import Any

import numpy as np

from burnish.ir.format import Array, Field, Fields, QuantFormat


class Int8_32(QuantFormat):
    """x = d * q, symmetric, q in -127..127. ggml's `block_q8_0` with an f32 scale, as its kernels use activations."""

    group = 32
    fields = (Field("d", "f4"), Field("q", "i1", bits=8))

    def quantize(self, x: Array) -> Fields:
        """d = max|x| * (1 / 127), for XLA divides by a constant so; q rounds half to even.

        Runs at run time, so in plain operators that JAX traces too.
        """
        d = abs(x).max(axis=-1, keepdims=True) * np.float32(1 / 127)
        q = (x / (d + (d == 0))).round().clip(-127, 127)
        return {"d": d.astype("float32"), "q": q.astype("int8")}

    def dequantize(self, xp: Any, fields: Fields) -> Array:
        """d * q."""
        return fields["d"] * fields["q"].astype("float32")
