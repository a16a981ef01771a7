"""Q5_1: 5 bits, groups of 32, an f16 scale and an f16 minimum."""

from __future__ import annotations

import numpy as np

from burnish.ir.format import Parts, QuantFormat, reciprocal
from burnish.ir.formats.q5_0 import HIGHEST
from burnish.ir.parts import Part, Raw, spread


class Q5_1(QuantFormat):
    """w = scale * code + minimum, code in 0..31. Bytes and rounding are ggml's (`block_q5_1`)."""

    group = 32
    parts = (Part("scale", "f2"), Part("minimum", "f2"), Part("code", per="input", bits=5))
    block = (Raw("scale"), Raw("minimum"), HIGHEST, *spread("code", 32, among=32, width=4))

    def quantize(self, x: np.ndarray) -> Parts:
        """31 steps from the least to the greatest; codes round half up."""
        least = x.min(axis=-1, keepdims=True)
        scale = (x.max(axis=-1, keepdims=True) - least) / np.float32(31)
        code = np.clip(np.trunc((x - least) * reciprocal(scale) + np.float32(0.5)), 0, 31)
        return {"scale": scale.astype("f2"), "minimum": least.astype("f2"), "code": code.astype("u1")}
