"""int8_32: 8 bits, groups of 32, one f32 scale: what activations are quantized to."""

from __future__ import annotations

from typing import Any

import numpy as np

from burnish.ir.format import Array, Parts, QuantFormat
from burnish.ir.parts import Part


class Int8_32(QuantFormat):
    """x = scale * code, symmetric, code in -127..127. As ggml's `block_q8_1`, it holds sums of codes as well.

    They are of each 16 inputs, and spare a product with weights that have a zero point or a minimum adding them up.
    """

    group = 32
    run = 16
    parts = (Part("scale", "f4"), Part("sum", "i2", per="run"), Part("code", "i1", per="input"))

    def quantize(self, x: Array) -> Parts:
        """scale = max|x| * (1 / 127), for XLA divides by a constant so; codes round half to even.

        Runs at run time, so in plain operators that JAX traces too.
        """
        scale = abs(x).max(axis=-1, keepdims=True) * np.float32(1 / 127)
        code = (x / (scale + (scale == 0))).round().clip(-127, 127)
        sums = code.reshape(*code.shape[:-1], 2, 16).sum(axis=-1)
        return {"scale": scale.astype("float32"), "sum": sums.astype("int16"), "code": code.astype("int8")}

    def dequantize(self, xp: Any, parts: Parts) -> Array:
        """scale * code: the sums say nothing that the codes do not."""
        *lead, inputs = parts["code"].shape
        groups = inputs // self.group
        code = parts["code"].reshape(*lead, groups, self.group).astype("float32")
        return (parts["scale"].reshape(*lead, groups, 1) * code).reshape(*lead, inputs)
