"""int4_128: 4 bits, groups of 128, an f16 scale and a zero point: what GPTQ and AWQ checkpoints hold."""

from __future__ import annotations

import numpy as np

from burnish.ir.format import Parts, QuantFormat, reciprocal
from burnish.ir.parts import Part


class Int4_128(QuantFormat):
    """w = scale * (code - zero), code in 0..15.

    The zero point has a byte: a checkpoint of GPTQ's stores it less 1 in 4 bits, so that it may be 16. A checkpoint's
    numbers become these parts as they are (`Packed.of_parts`).
    """

    group = 128
    parts = (Part("scale", "f2"), Part("zero"), Part("code", per="input", bits=4))

    def quantize(self, x: np.ndarray) -> Parts:
        """15 steps from the least to the greatest, 0 among them; zero and codes round half to even."""
        least = np.minimum(x.min(axis=-1, keepdims=True), np.float32(0))
        most = np.maximum(x.max(axis=-1, keepdims=True), np.float32(0))
        scale = ((most - least) / np.float32(15)).astype("f2")
        inverse = reciprocal(scale.astype("f4"))
        zero = np.clip(np.rint(-least * inverse), 0, 15)
        code = np.clip(np.rint(x * inverse) + zero, 0, 15)
        return {"scale": scale, "zero": zero.astype("u1"), "code": code.astype("u1")}
