"""The one caller of `Op.eval`: low precision, packed operands and result types are its business, for every backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from burnish.ir.format import LAYOUTS, Packed
from burnish.ir.op import Array, Arrays, Op
from burnish.ir.types import FLOATS, NUMPY

__all__ = ["evaluate"]

_LOW = {NUMPY[name] for name in FLOATS if NUMPY[name].itemsize < 4}


def evaluate(
    op: Op, xp: Arrays, inputs: Sequence[Array | None], dtypes: Sequence[str], bodies: Sequence[Callable[..., Any]] = ()
) -> tuple[Array, ...]:
    """Run one op on arrays of numpy or jax.numpy (`xp`); symbols are bound already. `dtypes` are the results'.

    Floats below f32 are widened where the op says so, packed operands are taken plane by plane or dequantized, and
    each result is cast to its type: NumPy's own promotion and its bf16 reductions are not ours.
    """
    packed = [x for x in inputs if isinstance(x, Packed)]
    if packed and op.planewise and (op.keeps_rows or all(LAYOUTS[x.layout].by_rows for x in packed)):
        results: Any = _plane_by_plane(op, xp, inputs, packed[0])
    else:
        if packed and not op.takes_packed:
            inputs = [x.dequantize(xp) if isinstance(x, Packed) else x for x in inputs]
        if op.widen:
            inputs = [x.astype("float32") if x is not None and x.dtype in _LOW else x for x in inputs]
        results = op.eval(xp, *inputs, bodies=bodies) if op.bodies else op.eval(xp, *inputs)
    if not isinstance(results, tuple):
        results = (results,)
    return tuple(_as_type(xp, r, dtype) for r, dtype in zip(results, dtypes, strict=True))


def _as_type(xp: Arrays, x: Array, dtype: str) -> Array:
    if isinstance(x, Packed):
        if x.format == dtype:
            return x
        x = x.dequantize(xp)
    x = xp.asarray(x)
    return x if x.dtype == NUMPY[dtype] else x.astype(NUMPY[dtype])


def _plane_by_plane(op: Op, xp: Arrays, inputs: Sequence[Array | None], first: Packed) -> tuple[Packed, ...]:
    lead = first.ndim - (1 if LAYOUTS[first.layout].by_rows else 2)
    planes: dict[str, tuple[Array, ...]] = {}
    for name, plane in first.planes.items():
        operands = [x.planes[name] if isinstance(x, Packed) else x for x in inputs]
        made = op.on_plane(lead, plane.shape[lead:]).eval(xp, *operands)
        planes[name] = made if isinstance(made, tuple) else (made,)
    results = []
    for made in zip(*planes.values(), strict=True):
        result = dict(zip(planes, made, strict=True))
        name, plane = next(iter(result.items()))
        inner = first.planes[name].ndim - lead  # a plane's axes for that of inputs, or for those of tiles
        results.append(first.with_planes(result, (*plane.shape[: plane.ndim - inner], *first.shape[lead:])))
    return tuple(results)
