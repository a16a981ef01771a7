"""Rotations by position; all of one step that turn by the same angles share a table of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.backends.kernels.copy import contiguous
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import Tensor
from burnish.ir.ops.attention import Rope
from burnish.ir.types import Type

__all__ = ["RopeTable"]


class RopeTable(NativeKernel):
    """rope of f32, within 1 ulp of 1 of the cosine and the sine of the f32 angle."""

    name = "rope.table"
    op = "rope"

    def why_not(self, op: Rope, x: Type, positions: Type, inv_freq: Type) -> str | None:
        """Needs f32, and positions of 32 bits, or 64."""
        if x.dtype != "f32" or inv_freq.dtype != "f32":
            return f"{x}, {inv_freq} are not f32"
        return None if positions.dtype in ("i32", "i64") else f"positions are {positions}"

    def emit(
        self, emitter: Emitter, op: Rope, results: Sequence[Type], x: Tensor, positions: Tensor, inv_freq: Tensor
    ) -> tuple[Tensor, ...]:
        """A table of the tokens, unless there is one, and the rotation; an item is a token."""
        batch, tokens, heads, n = x.shape
        half = inv_freq.shape[-1]
        table = emitter.once(
            ("rope", positions, inv_freq, op.interleaved, op.scale, batch, tokens),
            lambda: _table(emitter, op, (batch, tokens), positions, inv_freq),
        )
        out = emitter.buffer(x.shape, x.dtype)
        if x.strides[-1] != 4 and n > 1:
            x = contiguous(emitter, x)
        emitter.call(
            "rope", "pairs" if op.interleaved else "halves",
            x, *x.strides[:3], tokens, heads, n, half, table, out,
            items=batch * tokens, writes=[out], by_row=True, grain=-(-1024 // max(1, heads * n)),
        )  # fmt: skip
        return (out,)


def _table(emitter: Emitter, op: Rope, shape: tuple[int, int], positions: Tensor, inv_freq: Tensor) -> Tensor:
    """The cosines and sines of each token, see `simd/rope.py`: f32[B, S, R], or twice as many where `interleaved`."""
    (batch, tokens), half = shape, inv_freq.shape[-1]
    table = emitter.buffer((batch, tokens, half * (4 if op.interleaved else 2)), np.dtype("f4"))
    inv_freq = contiguous(emitter, inv_freq)
    steps = [0 if n == 1 else s for n, s in zip(positions.shape, positions.strides, strict=True)]
    per_sequence = 4 * half if inv_freq.shape[0] > 1 and len(inv_freq.shape) == 2 else 0
    emitter.call(
        "rope", "table",
        positions, positions.dtype.itemsize, *steps, tokens, inv_freq, per_sequence, half, float(op.scale),
        int(op.interleaved), table,
        items=batch * tokens, writes=[table], by_row=True, grain=-(-64 // max(1, half)), scratch=64,
    )  # fmt: skip
    return table
