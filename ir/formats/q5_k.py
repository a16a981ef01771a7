"""Q5_K: 5 bits, groups of 256 with a scale and a minimum, and 6-bit factors of both for each run of 32."""

from __future__ import annotations

from burnish.ir.format import QuantFormat
from burnish.ir.formats.q4_k import Q4_K, SUBSCALES
from burnish.ir.parts import Part, Raw, spread


class Q5_K(QuantFormat):
    """Q4_K with codes in 0..31. Bytes are ggml's (`block_q5_K`)."""

    group = 256
    run = 32
    parts = (*Q4_K.parts[:-1], Part("code", per="input", bits=5))
    block = (
        Raw("scale"),
        Raw("minimum", negated=True),
        *SUBSCALES,
        *spread("code", 256, among=256, width=1, low=4),
        *spread("code", 256, among=64, width=4),
    )
