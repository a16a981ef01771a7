"""Linear on quantized weights and int8 activations, at the speed at which memory gives the weights.

The kernel is generic in a format's parts: what it reads follows from them. `simd.tile` is made for each format.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from burnish.backends.kernels.cpu import INSTRUCTION_SETS, InstructionSet, instruction_sets
from burnish.backends.kernels.kernel import Kernel
from burnish.backends.kernels.threads import cores, run_on_threads
from burnish.backends.kernels.tiles import WORD_INPUTS
from burnish.ir.format import FORMATS, LAYOUTS, Packed, QuantFormat
from burnish.ir.op import Array, Op
from burnish.ir.types import NUMPY, Type

if TYPE_CHECKING:
    from burnish.backends.kernels.simd.product import PanelFunction, ProductFunction

__all__ = ["ACTIVATIONS", "LinearInt8", "TileShape", "why_unread"]

ACTIVATIONS = "int8_32"
BYTES_WORTH_A_THREAD = 1 << 22  # of weights, times tokens: 0.1 ms; a thread takes about 30 µs to wake
CHUNKS_A_THREAD = 8  # so that a thread that is held up leaves its work to the others


class TileShape(NamedTuple):
    """What one call of a tile works on: row tiles by tokens, and how many bytes of weights ahead it prefetches."""

    rows: int
    tokens: int
    ahead: int


#: for one token, and for more; a batch is filled up to whole tiles with zeros
VECTOR = TileShape(rows=1, tokens=1, ahead=2048)
BATCH = TileShape(rows=2, tokens=4, ahead=1024)


class LinearInt8(Kernel):
    """linear(x: int8_32[…, K], w: quantized[N, K] in tiles, b?) -> […, N], summed in integers within a run.

    Each output is summed in the same order whatever the number of tokens, the instruction set and the threads, so
    those do not change a bit of it.
    """

    name = "linear.int8"
    op = "linear"

    def layout_for(self, format: str) -> str | None:
        """The tiles of this CPU's best instruction set."""
        best = instruction_sets()[:1]
        return best[0].layout if best and why_unread(FORMATS[format]) is None else None

    def why_not(self, op: Op, x: Type, w: Type, b: Type | None = None) -> str | None:
        """Needs weights of a format that it reads, in tiles that this CPU reads, and int8 activations."""
        layouts = [s.layout for s in instruction_sets()]
        if w.format is None:
            return f"w is {w}, not quantized"
        if (unread := why_unread(w.format)) is not None:
            return f"w is {w}, and {unread}"
        if not layouts:
            return f"this CPU has none of {', '.join(s.name for s in INSTRUCTION_SETS)}"
        if x.dtype != ACTIVATIONS or x.layout:
            return f"x is {x}, not {ACTIVATIONS}"
        if w.layout not in layouts:
            return f"w is {w}, not in the layout {' or '.join(layouts)}"
        return None

    def __call__(
        self, op: Op, dtypes: Sequence[str], x: Packed, w: Packed, b: Array | None = None
    ) -> tuple[Array, ...]:
        """(x @ w.T + b,) in the type that the op gives it."""
        y = self._product(x, w)
        if b is not None:
            y += b.astype(np.float32)
        return (y.astype(NUMPY[dtypes[0]], copy=False),)

    def _product(self, x: Packed, w: Packed) -> np.ndarray:
        """x @ w.T: f32[…, N]."""
        isa = next(s for s in instruction_sets() if s.layout == w.layout)
        tokens = math.prod(x.shape[:-1])
        shape = VECTOR if tokens == 1 else BATCH
        codes, scales = (np.ascontiguousarray(w.planes[name]) for name in ("codes", "scales"))
        tiles, blocks = codes.shape[:2]
        product, make_panels, panel_rows = _compiled(FORMATS[w.format], isa, shape, tiles % shape.rows > 0)
        inputs = np.ascontiguousarray(x.planes["bytes"]).view(np.int32).reshape(tokens, blocks, 9)
        panels = np.empty((-(-tokens // shape.tokens), blocks, panel_rows, shape.tokens), np.int32)
        make_panels(inputs, panels)

        y = np.empty((len(panels) * shape.tokens, tiles * isa.lanes), np.float32)
        threads = max(1, min(cores(), codes.nbytes * tokens // BYTES_WORTH_A_THREAD))
        chunk = -(-tiles // (threads * CHUNKS_A_THREAD * shape.rows)) * shape.rows if threads > 1 else tiles
        counter = np.zeros(1, np.int64)
        run_on_threads(lambda: product(codes, scales, panels, y, max(chunk, 1), counter), threads)
        return y[:tokens, : w.shape[0]].reshape(*x.shape[:-1], w.shape[0])


@functools.cache
def _compiled(
    format: QuantFormat, isa: InstructionSet, shape: TileShape, rest: bool
) -> tuple[ProductFunction, PanelFunction, int]:
    """The product, what makes its panels, and their rows. `rest`: some row tiles are left over from blocks of them."""
    from burnish.backends.kernels.simd.instructions import INSTRUCTIONS
    from burnish.backends.kernels.simd.product import matrix_product, panels_for
    from burnish.backends.kernels.simd.tile import affine_tile, panel_of

    instructions = INSTRUCTIONS[isa.name]
    block = affine_tile(format, instructions, shape.rows, shape.tokens, shape.ahead)
    single = block if not rest else affine_tile(format, instructions, 1, shape.tokens, shape.ahead)
    panel = panel_of(format, instructions)
    return matrix_product(block, shape.rows, single), panels_for(panel), panel.rows


@functools.cache
def why_unread(format: QuantFormat) -> str | None:
    """None where the kernel reads the format, whose meaning then is that of `QuantFormat`'s parts; or why not."""
    name, run, code = format.name, format.run or format.group, format.code
    if type(format).dequantize is not QuantFormat.dequantize:
        return f"{name} has a meaning of its own"
    if (refusal := LAYOUTS[INSTRUCTION_SETS[0].layout].accepts(format, (1, format.group))) is not None:
        return refusal
    if run % WORD_INPUTS and run != WORD_INPUTS // 2:
        return f"{name} has runs of {run} inputs, not of {WORD_INPUTS // 2} or a multiple of {WORD_INPUTS}"
    signed = code.width == 8 and code.dtype == "i1" and format.part("zero") is None
    if not signed and not (code.width <= 6 and code.dtype == "u1"):
        return f"{name} has codes of {code.width} bits ({code.dtype}), not of up to 6, or of 8 with a sign"
    for p in format.parts:
        wanted = {"scale": ("f2", "f4"), "minimum": ("f2", "f4"), "zero": ("u1",)}.get(p.name, ("u1", "i1"))
        if p.dtype not in wanted:
            return f"{name} has a {p.name} of type {p.dtype}, not {' or '.join(wanted)}"
    return None
