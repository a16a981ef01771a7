"""Which quantized weights compiled code makes f32 of, row by row as they lie in a file."""

from __future__ import annotations

import functools


from burnish.ir.format import QuantFormat
from burnish.ir.parts import Bytes

__all__ = ["scratch_bytes", "why_not_floats"]

SLACK = 64  # bytes: registers are read whole


@functools.cache
def why_not_floats(format: QuantFormat) -> str | None:
    """None where `simd.dequantize` reads the format, whose meaning then is that of `QuantFormat`'s parts; or why not."""
    name = format.name
    if type(format).dequantize is not QuantFormat.dequantize:
        return f"{name} has a meaning of its own"
    if not format.group and any(isinstance(field, Bytes) for field in format.fields(0)):
        return f"{name} has parts that share bytes, and no groups"
    for p in format.parts:
        wanted = ("u1", "i1") if p.per == "input" else ("f2", "f4", "u1", "i1")
        if p.dtype not in wanted:
            return f"{name} has a {p.name} of type {p.dtype}, not {' or '.join(wanted)}"
    return None


def scratch_bytes(format: QuantFormat) -> int:
    """What a thread needs to read a row: a byte for each element of the parts that share bytes."""
    return sum(format.elements(p, format.group) for p in format.parts) + SLACK
