"""Positions as sines and cosines that are computed, not learned."""

from __future__ import annotations

import numpy as np

from burnish.ir.builder import Ops
from burnish.ir.graph import Value

__all__ = ["sinusoids"]


def sinusoids(op: Ops, positions: Value, width: int, closed: bool = False) -> Value:
    """i32[B, S] -> f32[B, S, width]: width / 2 sines, then cosines, of positions · 10000^-e (arXiv:1706.03762).

    e goes from 0 to 1: without 1 or, `closed`, with it, as in tensor2tensor. Of an odd width, one number is missing.
    """
    half = width // 2
    if closed:  # each step rounds to f32, as the original does
        frequencies = np.exp(np.arange(half, dtype="f4") * np.float32(-np.log(1e4) / max(1, half - 1)))
    else:
        frequencies = (1e4 ** -(np.arange(half) / half)).astype("f4")
    at = op.reshape(op.cast(positions, to="f32"), shape=(*positions.shape, 1))
    angles = at * op.constant(frequencies)
    return op.concat(op.sin(angles), op.cos(angles), axis=-1)
