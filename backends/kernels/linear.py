"""The base of kernels of `linear` on quantized weights and int8 activations: all but the tile itself."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from burnish.backends.kernels.cpu import INSTRUCTION_SETS, InstructionSet, instruction_sets
from burnish.backends.kernels.kernel import Kernel
from burnish.backends.kernels.threads import cores, run_on_threads
from burnish.ir.format import Packed
from burnish.ir.op import Array, Op
from burnish.ir.types import NUMPY, Type

if TYPE_CHECKING:
    from burnish.backends.kernels.simd.instructions import Instructions
    from burnish.backends.kernels.simd.product import PanelFunction, ProductFunction, TileFunction

__all__ = ["ACTIVATIONS", "Int8Linear", "TileShape"]

ACTIVATIONS = "int8_32"
PANEL_WORDS = 10  # 32-bit words a group and token: see `simd.product.make_panels`
BYTES_WORTH_A_THREAD = 1 << 22  # of weights, times tokens: 0.1 ms; a thread takes about 30 µs to wake
CHUNKS_A_THREAD = 8  # so that a thread that is held up leaves its work to the others


class TileShape(NamedTuple):
    """What one call of a tile works on: row tiles by tokens, and how many bytes of weights ahead it prefetches."""

    rows: int
    tokens: int
    ahead: int


class Int8Linear(Kernel):
    """linear(x: int8_32[…, K], w: `format`[N, K] in tiles, b?) -> […, N], summed in integers within a group.

    Each output is summed in the same order whatever the number of tokens, the instruction set and the threads, so
    those do not change a bit of it.
    """

    op = "linear"
    #: the format of the weights
    format: ClassVar[str]
    #: the code that stands for zero
    zero_point: ClassVar[int]
    #: for one token, and for more; a batch is filled up to whole tiles with zeros
    vector = TileShape(rows=1, tokens=1, ahead=2048)
    batch = TileShape(rows=2, tokens=4, ahead=1024)

    def tile(self, isa: Instructions, shape: TileShape) -> TileFunction:
        """The compiled product of shape.rows row tiles and shape.tokens tokens: see `TileFunction`."""
        raise NotImplementedError

    def layout_for(self, format: str) -> str | None:
        """The tiles of this CPU's best instruction set."""
        best = instruction_sets()[:1]
        return best[0].layout if best and format == self.format else None

    def why_not(self, op: Op, x: Type, w: Type, b: Type | None = None) -> str | None:
        """Needs weights of the format, in tiles that this CPU reads, and int8 activations."""
        layouts = [s.layout for s in instruction_sets()]
        if w.dtype != self.format:
            return f"w is {w}, not {self.format}"
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
        shape = self.vector if tokens == 1 else self.batch
        product, make_panels = self._compiled(isa, shape)

        words, scales = (np.ascontiguousarray(w.planes[name]) for name in ("words", "scales"))
        tiles, groups = words.shape[:2]
        blocks = np.ascontiguousarray(x.planes["bytes"]).view(np.int32).reshape(tokens, groups, 9)
        panels = np.empty((-(-tokens // shape.tokens), groups, PANEL_WORDS, shape.tokens), np.int32)
        make_panels(blocks, self.zero_point, panels)

        y = np.empty((len(panels) * shape.tokens, tiles * isa.lanes), np.float32)
        threads = max(1, min(cores(), words.nbytes * tokens // BYTES_WORTH_A_THREAD))
        chunk = -(-tiles // (threads * CHUNKS_A_THREAD * shape.rows)) * shape.rows if threads > 1 else tiles
        counter = np.zeros(1, np.int64)
        run_on_threads(lambda: product(words, scales.view(np.uint8), panels, y, max(chunk, 1), counter), threads)
        return y[:tokens, : w.shape[0]].reshape(*x.shape[:-1], w.shape[0])

    @functools.cache  # noqa: B019  # kernels live as long as the process
    def _compiled(self, isa: InstructionSet, shape: TileShape) -> tuple[ProductFunction, PanelFunction]:
        from burnish.backends.kernels.simd.instructions import INSTRUCTIONS
        from burnish.backends.kernels.simd.product import make_panels, matrix_product

        block = self.tile(INSTRUCTIONS[isa.name], shape)
        single = block if shape.rows == 1 else self.tile(INSTRUCTIONS[isa.name], shape._replace(rows=1))
        return matrix_product(block, shape.rows, single), make_panels
