"""Products with weights, a block of rows at a time, each widened or unpacked just before."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from burnish.backends.xla_kernels.kernel import InStack, XlaKernel, floats, part_of, repeated
from burnish.ir.format import LAYOUTS
from burnish.ir.op import Array, Op
from burnish.ir.types import NUMPY, Type

BLOCK = 1 << 17  # weights unpacked at once: 512 KiB in f32, which stay in a core's cache


class _ByRows(XlaKernel):
    in_stack = ("w",)

    def how(self, op: Op, x: Type, w: Type, *others: Type | None) -> str:
        """In how many bits weights and inputs are multiplied, and what is dequantized."""
        bits = f", {w.dtype} dequantized a block of rows at a time, W{_bits(w)}A{_bits(x)}" if w.format else ""
        return f"kernel {self.name}{bits}"


class LinearByRows(_ByRows):
    """The product with one matrix."""

    name = "linear.rows"
    op = "linear"

    def why_not(self, op: Op, x: Type, w: Type, b: Type | None = None) -> str | None:
        """Needs weights that XLA would copy first, and whose rows can be read."""
        if (reason := _why_not_rows(w)) is not None:
            return reason
        narrow = w.format is not None or NUMPY[w.dtype].itemsize < 4  # unpacked or widened, then
        return None if isinstance(w, InStack) or narrow else f"XLA reads {w.dtype} where it lies"

    def __call__(self, op: Op, dtypes: Sequence[str], x: Array, w: Array, b: Array | None = None) -> tuple[Array, ...]:
        x, b = floats(x), floats(b)
        outputs, inputs = w.shape
        rows = _rows_at_once(outputs, inputs)

        def block(j: Array, y: Array) -> Array:
            at = jnp.minimum(j * rows, outputs - rows)  # the last block may overlap the one before
            part = jnp.matmul(x, floats(part_of(w, {0: (at, rows)})).T)
            return jax.lax.dynamic_update_slice_in_dim(y, part.astype(y.dtype), at, axis=-1)

        y = repeated(-(-outputs // rows), block, jnp.zeros((*x.shape[:-1], outputs), x.dtype))
        y = y if b is None else y + b
        return (y.astype(NUMPY[dtypes[0]]),)


class ExpertLinearByRows(_ByRows):
    """The products with chosen matrices of a stack.

    Where fewer are chosen than there are, only those are read; otherwise each once, and it multiplies all inputs.
    """

    name = "expert_linear.rows"
    op = "expert_linear"

    def why_not(self, op: Op, x: Type, w: Type, chosen: Type, b: Type | None = None) -> str | None:
        """Needs weights whose rows can be read."""
        return _why_not_rows(w)

    def __call__(
        self, op: Op, dtypes: Sequence[str], x: Array, w: Array, chosen: Array, b: Array | None = None
    ) -> tuple[Array, ...]:
        experts, outputs, inputs = w.shape
        given = jnp.broadcast_to(floats(x), (*chosen.shape, inputs)).reshape(-1, inputs)
        choices = jnp.clip(chosen, 0, experts - 1).reshape(-1).astype("int32")
        rows = _rows_at_once(outputs, inputs)
        blocks, few = -(-outputs // rows), len(choices) <= experts

        def one(choice: Array, matrix: Array, at: Array, y: Array) -> Array:
            part = jax.lax.dynamic_slice_in_dim(given, choice, 1) @ matrix.T
            return jax.lax.dynamic_update_slice(y, part, (choice, at))

        def every(expert: Array, matrix: Array, at: Array, y: Array) -> Array:
            before = jax.lax.dynamic_slice_in_dim(y, at, rows, axis=1)
            part = jnp.where((choices == expert)[:, None], given @ matrix.T, before)
            return jax.lax.dynamic_update_slice_in_dim(y, part, at, axis=1)

        def step(i: Array, y: Array) -> Array:
            turn, block = i // blocks, i % blocks
            at = jnp.minimum(block * rows, outputs - rows)  # the last block may overlap the one before
            matrix = floats(part_of(w, {0: (choices[turn] if few else turn, 1), 1: (at, rows)}))[0]
            return one(turn, matrix, at, y) if few else every(turn, matrix, at, y)

        turns = len(choices) if few else experts
        y = repeated(turns * blocks, step, jnp.zeros((len(choices), outputs), given.dtype))
        y = y if b is None else y + floats(jnp.take(b, choices, axis=0))
        return (y.reshape(*chosen.shape, outputs).astype(NUMPY[dtypes[0]]),)


def _why_not_rows(w: Type) -> str | None:
    by_rows = w.format is None or LAYOUTS[w.layout].by_rows
    return None if by_rows else f"rows cannot be read from its layout {w.layout}"


def _rows_at_once(outputs: int, inputs: int) -> int:
    return max(1, min(outputs, BLOCK // max(inputs, 1)))


def _bits(t: Type) -> int:
    """Bits an element, without its scale."""
    return t.format.code.width if t.format is not None else NUMPY[t.dtype].itemsize * 8
