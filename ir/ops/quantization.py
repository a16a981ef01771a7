"""Between plain and packed storage."""

from __future__ import annotations

import numpy as np

from burnish.ir.format import FORMATS, LAYOUTS, FormatError, Packed
from burnish.ir.op import Array, Arrays, Axes, Op
from burnish.ir.types import FLOATS, InferError, Type, dtype_name, require


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

    def of_weight(self, x: Array) -> Packed:
        """The same of what is known before run time. Raises QuantizeError for numbers that the format cannot hold."""
        x = x.dequantize(np) if isinstance(x, Packed) else x.astype("float32")
        return Packed.quantize(np, x, self.format, checked=True)

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


class UnpackBits(Op):
    """Fields of `bits` bits of each word of x, from bit 0 up, one after the other along `axis`, plus `plus` -> u8"""

    bits: int
    axis: int
    plus: int = 0
    kind = "memory"
    widen = False
    reproducible = True

    def infer(self, x: Type) -> Type:
        require(x.dtype in ("i32", "u32"), f"unpack_bits: {x} are not words of 32 bits")
        require(self.bits in (1, 2, 4, 8), f"unpack_bits: fields of {self.bits} bits do not fill a word")
        require(0 <= self.plus <= 256 - (1 << self.bits), f"unpack_bits: {self.plus} more may not fit a byte")
        axis = x.axis(self.axis)
        return Type("u8", tuple(d * (32 // self.bits) if i == axis else d for i, d in enumerate(x.shape)))

    def along(self, x: Type) -> tuple[Axes, ...]:
        axis = x.axis(self.axis)
        return (tuple(None if i == axis else i for i in range(x.rank)),)

    def eval(self, xp: Arrays, x: Array) -> Array:
        axis, most = self.axis % x.ndim, (1 << self.bits) - 1
        words = x.view("uint32")[..., None]
        fields = (words >> xp.arange(0, 32, self.bits, dtype="uint32") & xp.uint32(most)) + xp.uint32(self.plus)
        fields = xp.moveaxis(fields.astype("uint8"), -1, axis + 1)
        return fields.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])


class PackParts(Op):
    """The packed array of a format whose logical parts these are, in its order, each [..., elements of a row]"""

    format: str
    kind = "memory"
    widen = False
    reproducible = True

    def infer(self, *parts: Type) -> Type:
        require(self.format in FORMATS, f"pack_parts: unknown format {self.format!r}")
        fmt = FORMATS[self.format]
        require(len(parts) == len(fmt.parts), f"pack_parts: {self.format} is made of {len(fmt.parts)} parts")
        code = next(t for p, t in zip(fmt.parts, parts, strict=True) if p is fmt.code)
        require(code.rank >= 1 and isinstance(code.shape[-1], int), f"pack_parts: {code} are no codes")
        inputs = code.shape[-1]
        assert isinstance(inputs, int)
        try:
            fmt.check(inputs)
        except FormatError as e:
            raise InferError(f"pack_parts: {e}") from None
        for p, t in zip(fmt.parts, parts, strict=True):
            wanted = Type(dtype_name(np.dtype(p.dtype)), (*code.shape[:-1], fmt.elements(p, inputs)))
            require(t == wanted, f"pack_parts: {p.name} of {self.format} is {t}, not {wanted}")
        return code.with_dtype(self.format)

    def along(self, *parts: Type) -> tuple[Axes, ...]:
        return tuple((*range(t.rank - 1), None) for t in parts)

    def eval(self, xp: Arrays, *parts: Array) -> Array:
        made = zip(FORMATS[self.format].parts, parts, strict=True)
        # A check in float64 widens the scales that it reads.
        stored = {p.name: x if x.dtype == p.dtype else x.astype(p.dtype) for p, x in made}
        return Packed.of_parts(xp, self.format, stored)
