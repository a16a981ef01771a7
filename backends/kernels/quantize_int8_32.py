"""Activations to int8_32, what the linear kernels read: NumPy takes as long over it as those over their product."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from burnish.backends.kernels.kernel import Kernel
from burnish.ir.format import Packed
from burnish.ir.op import Array
from burnish.ir.ops.quantization import Quantize
from burnish.ir.types import Type

__all__ = ["QuantizeInt8_32"]


class QuantizeInt8_32(Kernel):
    """quantize(x[…, K], format="int8_32"), bit for bit the format's own on finite numbers."""

    name = "quantize.int8_32"
    op = "quantize"

    def why_not(self, op: Quantize, x: Type) -> str | None:
        """Needs the format int8_32, and inputs that f32 holds."""
        if op.format != "int8_32":
            return f"the format is {op.format}, not int8_32"
        return f"x is {x}, wider than f32" if x.dtype == "f64" else None

    def __call__(self, op: Quantize, dtypes: Sequence[str], x: Array) -> tuple[Array, ...]:
        """One `Packed` in the default layout."""
        tokens, groups = math.prod(x.shape[:-1]), x.shape[-1] // 32
        values = np.ascontiguousarray(x, np.float32).reshape(tokens, groups, 32)
        blocks = np.empty((tokens, groups, 9), np.float32)
        _compiled()(values, blocks)
        return (Packed("int8_32", "", x.shape, {"bytes": blocks.view(np.uint8).reshape(*x.shape[:-1], groups * 36)}),)


@functools.cache
def _compiled() -> Callable[[np.ndarray, np.ndarray], None]:
    from numba import njit
    from numba.core.types import Array, float32, void

    magnitude_bits = np.int32(0x7FFFFFFF)
    per_code, most = np.float32(1 / 127), np.float32(127)
    half_even = np.float32(1.5 * 2**23)  # added and taken away, it rounds what is below 2**22

    @njit(void(Array(float32, 3, "C", readonly=True), Array(float32, 3, "C")), nogil=True)
    def quantize(values: np.ndarray, blocks: np.ndarray) -> None:
        """f32[tokens, groups, 32] -> [tokens, groups, 9]: the scale, and 32 bytes of codes."""
        bits, codes = values.view(np.int32), blocks.view(np.int8)
        tokens, groups, _ = values.shape
        for token in range(tokens):
            for g in range(groups):
                largest = np.int32(0)  # of magnitudes as integers, whose order is the same: LLVM vectorises it
                for i in range(32):
                    largest = max(largest, bits[token, g, i] & magnitude_bits)
                blocks.view(np.int32)[token, g, 0] = largest
                scale = blocks[token, g, 0] * per_code
                blocks[token, g, 0] = scale
                divisor = scale if scale != 0 else np.float32(1)
                for i in range(32):
                    code = (values[token, g, i] / divisor + half_even) - half_even
                    codes[token, g, 4 + i] = np.int8(min(max(code, -most), most))

    return quantize
