"""Q6_K: 6 bits, groups of 256 with a scale, and an 8-bit factor of it for each run of 16."""

from __future__ import annotations

from burnish.ir.format import QuantFormat
from burnish.ir.parts import Part, Raw, spread


class Q6_K(QuantFormat):
    """w = scale * subscale * (code - 32), code in 0..63. Bytes are ggml's (`block_q6_K`)."""

    group = 256
    run = 16
    parts = (Part("scale", "f2"), Part("subscale", "i1", per="run"), Part("code", per="input", bits=6))
    zero = 32
    block = (
        *spread("code", 256, among=128, width=4),
        *spread("code", 256, among=128, width=2, low=4),
        Raw("subscale"),
        Raw("scale"),
    )
