"""Q5_0: 5 bits, groups of 32, one f16 scale."""

from __future__ import annotations

import numpy as np

from burnish.ir.format import Parts, QuantFormat, reciprocal
from burnish.ir.parts import Bits, Bytes, Part, Raw, spread

#: of `block_q5_0` and `block_q5_1`: bit i of byte j is the highest of code 8j + i
HIGHEST = Bytes(4, tuple(Bits("code", 1, first=i, low=4, step=8) for i in range(8)))


class Q5_0(QuantFormat):
    """w = scale * (code - 16), code in 0..31. Bytes and rounding are ggml's (`block_q5_0`)."""

    group = 32
    parts = (Part("scale", "f2"), Part("code", per="input", bits=5))
    zero = 16
    block = (Raw("scale"), HIGHEST, *spread("code", 32, among=32, width=4))

    def quantize(self, x: np.ndarray) -> Parts:
        """The scale maps the value of largest magnitude to -16; codes round half up."""
        largest = np.take_along_axis(x, np.abs(x).argmax(axis=-1, keepdims=True), axis=-1)
        scale = largest / np.float32(-16)
        code = np.clip(np.trunc(x * reciprocal(scale) + np.float32(16.5)), 0, 31)
        return {"scale": scale.astype("f2"), "code": code.astype("u1")}
