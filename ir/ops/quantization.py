"""Between plain and packed storage."""

from __future__ import annotations

import numpy as np

from burnish.ir.format import FORMATS, LAYOUTS, Packed
from burnish.ir.op import Array, Arrays, Op
from burnish.ir.types import FLOATS, Type, require


class Quantize(Op):
    """x[…, K] in `format`: groups along the last axis share a scale"""

    format: str
    by_last_axis = True
    reproducible = True

    def infer(self, x: Type) -> Type:
        require(self.format in FORMATS, f"quantize: unknown format {self.format!r}")
        require(FORMATS[self.format].is_made, f"quantize: {self.format} is read, not made, yet")
        require(x.is_float, f"quantize: {x} is not a float")
        return x.with_dtype(self.format)

    def eval(self, xp: Arrays, x: Array) -> Array:
        return Packed.quantize(xp, x.astype("float32"), self.format)


class Dequantize(Op):
    """The floats that x stands for"""

    to: str = "f32"
    takes_packed = True
    by_last_axis = True
    reproducible = True

    def infer(self, x: Type) -> Type:
        require(x.format is not None, f"dequantize: {x} is not quantized")
        require(self.to in FLOATS, f"dequantize: {self.to} is not a float type")
        return x.with_dtype(self.to)

    def eval(self, xp: Arrays, x: Array) -> Array:
        return x.dequantize(xp)


class Relayout(Op):
    """The same quantized numbers, exactly, in another layout ("" is the default)"""

    layout: str
    kind = "memory"
    takes_packed = True
    by_last_axis = True

    def infer(self, x: Type) -> Type:
        require(x.format is not None, f"relayout: {x} is not quantized")
        require(self.layout in LAYOUTS, f"relayout: unknown layout {self.layout!r}")
        why = LAYOUTS[self.layout].accepts(FORMATS[x.dtype], x.shape)
        require(why is None, f"relayout: {x} cannot lie as {self.layout}: {why}")
        return x.with_dtype(x.dtype, self.layout)

    def eval(self, xp: Arrays, x: Array) -> Array:
        return x.relayout(np if isinstance(next(iter(x.planes.values())), np.ndarray) else xp, self.layout)
