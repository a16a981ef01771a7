"""Weights as they are stored, in any float type or quantized: which of them compiled code reads, row by row."""

from __future__ import annotations

import functools

from burnish.backends.kernels.rows import as_rows
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import PackedTensor, Tensor
from burnish.ir.format import FORMATS, QuantFormat
from burnish.ir.types import Type, dtype_name

__all__ = ["READER", "kinds", "stored_rows", "why_not_stored"]

FLOATS = ("f32", "f16", "bf16")
READER = 1024  # bytes that reading a row may take of scratch memory: one for each element of parts that share bytes
SLACK = 64  # bytes: registers are read whole


def why_not_stored(w: Type) -> str | None:
    """None where `simd.stored` reads rows of such weights, or why not."""
    if w.format is None:
        return None if w.dtype in FLOATS else f"w is {w}, not {', '.join(FLOATS)} or quantized"
    if w.layout:
        return f"w is {w}, not in the layout of files"
    refusal = _why_unread(w.format)
    return refusal and f"w is {w}, and {refusal}"


def kinds() -> list[str]:
    """What rows are read of: the float types, and formats."""
    return [*FLOATS, *(name for name, format in FORMATS.items() if _why_unread(format) is None)]


@functools.cache
def _why_unread(format: QuantFormat) -> str | None:
    name = format.name
    if type(format).dequantize is not QuantFormat.dequantize:
        return f"{name} has a meaning of its own"
    if not format.group and (format.block or any(p.width % 8 or p.per == "run" for p in format.parts)):
        return f"{name} has parts that share bytes, or runs, and no groups"
    for p in format.parts:
        wanted = ("u1", "i1") if p.per == "input" else ("f2", "f4", "u1", "i1")
        if p.dtype not in wanted:
            return f"{name} has a {p.name} of type {p.dtype}, not {' or '.join(wanted)}"
    if sum(format.elements(p, format.group) for p in format.parts) > READER - SLACK:
        return f"{name} has groups of {format.group} inputs"
    return None


def stored_rows(emitter: Emitter, w: Tensor | PackedTensor) -> tuple[str, Tensor, int]:
    """What rows are stored in, which is a format or a float type; their memory; the bytes from one to the next."""
    kind, plane = (w.format, w.planes["bytes"]) if isinstance(w, PackedTensor) else (dtype_name(w.dtype), w)
    plane, (_, step) = as_rows(emitter, plane)
    return kind, plane, step
