"""int8_32: 8 bits, groups of 32, one f32 scale: what activations are quantized to."""

from __future__ import annotations

import numpy as np

from burnish.ir.format import Array, Parts, QuantFormat
from burnish.ir.parts import Part


class Int8_32(QuantFormat):
    """x = scale * code, symmetric, code in -127..127. ggml's `block_q8_0` with an f32 scale, as its kernels use it."""

    group = 32
    parts = (Part("scale", "f4"), Part("code", "i1", per="input"))

    def quantize(self, x: Array) -> Parts:
        """scale = max|x| * (1 / 127), for XLA divides by a constant so; codes round half to even.

        Runs at run time, so in plain operators that JAX traces too.
        """
        scale = abs(x).max(axis=-1, keepdims=True) * np.float32(1 / 127)
        code = (x / (scale + (scale == 0))).round().clip(-127, 127)
        return {"scale": scale.astype("float32"), "code": code.astype("int8")}
