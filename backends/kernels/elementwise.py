"""Element by element: one kernel for each op, all of them one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.backends.kernels.copy import contiguous
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.rows import items_of
from burnish.backends.native.emit import Argument, Emitter
from burnish.backends.native.tensor import Memory, Tensor
from burnish.ir.op import Op
from burnish.ir.ops.elementwise import Cast, Gelu
from burnish.ir.types import Type, dtype_name

__all__ = ["SCRATCH", "UNITS", "Elementwise", "as_f32"]

SCRATCH = 4 * 256  # bytes: as many elements of each operand and of the result as are worked on at once

#: the units of `simd.elementwise`, and the functions of each: an op, and the element type of its last operand
UNITS = {
    "arithmetic": "add.f32 sub.f32 mul.f32 div.f32 fma.f32 neg.f32",
    "activations": "relu.f32 silu.f32 sigmoid.f32 gelu.f32 gelu_tanh.f32 tanh.f32 maximum.f32 minimum.f32",
    "functions": "abs.f32 sqrt.f32 rsqrt.f32 reciprocal.f32 exp.f32 log.f32 sin.f32 cos.f32 erf.f32 softplus.f32 "
    "pow.f32",
    "choices": "equal.f32 less.f32 less_or_equal.f32 isnan.f32 where.f32 equal.bool logical_and.bool logical_or.bool "
    "logical_not.bool where.bool",
    "integers": "add.i32 sub.i32 mul.i32 div.i32 mod.i32 maximum.i32 minimum.i32 equal.i32 less.i32 "
    "less_or_equal.i32 where.i32",
    "casts": "cast.i32.f32 cast.bool.f32 cast.f16.f32 cast.bf16.f32 cast.f32.f16 cast.f32.bf16 cast.f32.i32 "
    "cast.bool.i32 cast.f32.bool cast.i32.bool",
}
FUNCTIONS = {name: f"elementwise:{unit}" for unit, names in UNITS.items() for name in names.split()}


class Elementwise(NativeKernel):
    """Those whose operands are of the types of a function of UNITS, broadcast."""

    def why_not(self, op: Op, *types: Type) -> str | None:
        """Names the function that there is not."""
        name = _function(op, types[-1].dtype)
        return None if name in FUNCTIONS else f"{', '.join(map(str, types))}: there is no {name}"

    def emit(self, emitter: Emitter, op: Op, results: Sequence[Type], *xs: Tensor) -> tuple[Any, ...]:
        """One call; an item is what `items_of` says."""
        out, name = emitter.empty(results[0]), _function(op, dtype_name(xs[-1].dtype))
        assert isinstance(out, Tensor)  # plain
        items, rows, n, (to, *given) = items_of(emitter, out.shape, [out, *xs])
        arguments: list[Argument] = [out, to.item, to.row, rows, n]
        for x in given:
            arguments += [*x]
        emitter.call(
            FUNCTIONS[name], name, *arguments, items=items if n else 0, writes=[out], by_row=True, scratch=SCRATCH
        )
        return (out,)


def as_f32(emitter: Emitter, t: Tensor) -> Tensor:
    """A tensor of f32, f16 or bf16, or a copy, in f32 and row after row without gaps; of what is fixed, made once."""
    if t.dtype == np.float32:
        return contiguous(emitter, t)
    if t.memory.kind == "fixed":
        array = np.ascontiguousarray(t.array, np.float32)
        return Tensor(Memory(array, "fixed"), array)
    (made,) = Elementwise().emit(emitter, Cast(to="f32"), [Type("f32", t.shape)], t)
    assert isinstance(made, Tensor)
    return made


def _function(op: Op, dtype: str) -> str:
    """The name of the function that runs `op`, were there one, where the last operand is of that element type."""
    if isinstance(op, Cast):
        return f"cast.{dtype}.{op.to}"
    tanh = isinstance(op, Gelu) and op.approximate == "tanh"
    return f"{op.name}{'_tanh' if tanh else ''}.{dtype}"


for _op in dict.fromkeys(name.split(".")[0].removesuffix("_tanh") for name in FUNCTIONS):
    type(_op, (Elementwise,), {"name": f"{_op}.elementwise", "op": _op})
