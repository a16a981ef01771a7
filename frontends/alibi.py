"""The slopes of ALiBi: how much less a token counts for each token in between, a number for each head."""

from __future__ import annotations

import numpy as np

__all__ = ["alibi_slopes"]


def alibi_slopes(heads: int) -> np.ndarray:
    """f32[heads], for `op.alibi`: 2^(-8 i / n) for i = 1 … n, n being a power of two (arXiv:2108.12409).

    Where the heads are none, those of the next lower power and, between them, every other one of the next higher.
    """
    lower = 1 << (heads.bit_length() - 1)
    between = [-4.0 * i / lower for i in range(1, 2 * (heads - lower), 2)]
    return np.exp2([*(-8.0 * i / lower for i in range(1, lower + 1)), *between]).astype("f4")
