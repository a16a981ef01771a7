"""Weights from the blocks of a file to the tiles that `linear` reads, at the speed of memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.tiles import GROUP, WORD_INPUTS, offsets
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import PackedTensor, Value
from burnish.ir.format import LAYOUTS, QuantFormat
from burnish.ir.op import Op
from burnish.ir.ops.quantization import Relayout
from burnish.ir.parts import Raw
from burnish.ir.types import Type

__all__ = ["RelayoutTiles"]


class RelayoutTiles(NativeKernel):
    """relayout(x[…, rows, K], layout="tiles8" or "tiles16"): the bytes that `Packed.relayout` makes."""

    name = "relayout.tiles"
    op = "relayout"
    same_bytes = True

    def why_not(self, op: Relayout, x: Type) -> str | None:
        """Needs blocks, to become tiles."""
        if op.layout not in ("tiles8", "tiles16"):
            return f"the layout is {op.layout or 'that of files'}, not tiles8 or tiles16"
        if x.layout or x.format is None:
            return f"x is {x}, which does not lie as files do"
        if not x.format.group and not whole_codes(x.format):
            return f"{x.format.name} has codes of a whole row that are not bytes"
        return None

    def emit(self, emitter: Emitter, op: Op, results: Sequence[Type], x: PackedTensor) -> tuple[Value, ...]:
        """One call; an item is a tile."""
        (type,) = results
        *lead, rows, inputs = type.sizes
        assert type.format is not None
        format, lanes, matrices = type.format, LAYOUTS[type.layout].tile, math.prod(lead)
        groups, tiles = format.elements(GROUP, inputs), -(-rows // lanes)
        words = (*lead, tiles, inputs // WORD_INPUTS, format.code.width, lanes)
        codes = emitter.buffer(words, np.dtype("u4"))
        scales = emitter.buffer((*lead, tiles, groups, offsets(format, lanes)[""]), np.dtype("u1"))
        emitter.call(
            f"relayout:{format.name}", type.layout, x.planes["bytes"], format.row_bytes(inputs), rows,
            inputs // (format.group or WORD_INPUTS), tiles, codes, 4 * math.prod(words[-3:]), scales,
            math.prod(scales.shape[-2:]),
            items=matrices * tiles, writes=[codes, scales],
        )  # fmt: skip
        return (PackedTensor(format.name, type.layout, type.sizes, {"codes": codes, "scales": scales}),)


def whole_codes(format: QuantFormat) -> bool:
    """Whether a row is its parts side by side, and its codes bytes at its end: what is read without a group's size."""
    raw = all(isinstance(f, Raw) for p in format.parts for f in format.fields_of(p, WORD_INPUTS))
    return raw and not format.block and format.parts[-1] is format.code
