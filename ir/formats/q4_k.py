"""Q4_K: 4 bits, groups of 256 with a scale and a minimum, and 6-bit factors of both for each run of 32."""

from __future__ import annotations

from burnish.ir.format import QuantFormat
from burnish.ir.parts import Bits, Bytes, Part, Raw, spread

#: of `block_q4_K` and `block_q5_K`: 8 sub-scales and 8 sub-minima, 6 bits each, in 12 bytes
SUBSCALES = (
    Bytes(4, (Bits("subscale", 6), Bits("subscale", 2, first=4, low=4))),
    Bytes(4, (Bits("subminimum", 6), Bits("subminimum", 2, first=4, low=4))),
    Bytes(4, (Bits("subscale", 4, first=4), Bits("subminimum", 4, first=4))),
)


class Q4_K(QuantFormat):
    """w = scale * subscale * code + minimum * subminimum. Bytes are ggml's (`block_q4_K`, which has -minimum)."""

    group = 256
    run = 32
    parts = (
        Part("scale", "f2"),
        Part("minimum", "f2"),
        Part("subscale", per="run", bits=6),
        Part("subminimum", per="run", bits=6),
        Part("code", per="input", bits=4),
    )
    block = (Raw("scale"), Raw("minimum", negated=True), *SUBSCALES, *spread("code", 256, among=64, width=4))
