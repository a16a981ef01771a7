"""The law of formats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from burnish.ir.format import LAYOUTS, FormatError, Packed, QuantFormat
from burnish.ir.op import Array
from burnish.testing.running import bytes_of, type_of

__all__ = ["check_format"]


def check_format(format: QuantFormat) -> None:
    """Raise AssertionError unless the format obeys the laws of every format.

    Its bytes read back as the fields that were written; rounding is off by at most a step of a grid of that many
    bits; a group of zeros comes back as zeros; JAX dequantizes to the same numbers; every layout that accepts it
    keeps every bit; a row does not depend on the rows around it; an axis that the group does not divide is refused.
    """
    name = format.name
    doc = type(format).__doc__ or ""
    assert doc, f"{name} has no docstring"
    stored: list[tuple[str, Packed]] = []
    for what, x in _samples(format.group or 64).items():
        where = f"{name}, {what}"
        before = x.tobytes()
        packed = Packed.quantize(np, x, name)
        assert x.tobytes() == before, f"{where}: quantize changed its operand"
        _check_bytes(format, packed, where)
        back = packed.dequantize(np)
        assert back.dtype == np.float32 and back.shape == x.shape, f"{where}: dequantizes to {type_of(back)}"
        groups = x.reshape(*x.shape[:-1], -1, format.group_size(x.shape[-1]))
        largest = np.abs(groups).max(axis=-1, keepdims=True)
        step = largest / 2.0 ** (sum(f.bits for f in format.fields) - 1) * (1 + 2**-8) + 2.0**-24  # f16's smallest
        error = np.abs(back.reshape(groups.shape) - groups)
        assert (error <= step).all(), f"{where}: rounding is off by {np.nanmax(error / step):.3g} steps"
        zero = (groups == 0).all(axis=-1)
        assert (back.reshape(groups.shape)[zero] == 0).all(), f"{where}: a group of zeros is not zero"
        _check_rows(packed, x, where)
        stored += _check_layouts(format, packed, where)
    _check_jax(stored)
    if format.group > 1:
        try:
            format.check(format.group + 1)
        except FormatError:
            return
        raise AssertionError(f"{name}: accepts an axis of {format.group + 1}, which groups do not divide")


def _samples(group: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((6, 3 * group)).astype("f4")
    zeros = normal.copy()
    zeros[1], zeros[2, :group], zeros[3, ::2] = 0, 0, 0
    outlier = normal * np.float32(0.01)
    outlier[:, :: group // 2] = 50
    scales = 10.0 ** rng.integers(-3, 4, (6, 3 * group))
    return {
        "normal numbers": normal,
        "zeros": zeros,
        "outliers": outlier,
        "many magnitudes": (normal * scales).astype("f4"),
        "one sign": -np.abs(normal),
        "three axes": normal.reshape(2, 3, -1),
    }


def _check_bytes(format: QuantFormat, packed: Packed, where: str) -> None:
    data = packed.planes["bytes"]
    inputs = packed.shape[-1]
    good = data.dtype == np.uint8 and data.shape == (*packed.shape[:-1], format.row_bytes(inputs))
    assert good, f"{where}: bytes are {type_of(data)}, not rows of {format.row_bytes(inputs)}"
    if format.group:
        assert format.row_bytes(inputs) * 8 == format.bits * inputs, f"{where}: {format.bits} bits are not those bytes"
    fields = packed.unpack(np)
    assert list(fields) == [f.name for f in format.fields], f"{where}: fields are {list(fields)}"
    again = LAYOUTS[""].pack(np, format, fields, packed.shape)["bytes"]
    assert np.array_equal(again, data), f"{where}: bytes, fields, bytes are not the same bytes"


def _check_rows(packed: Packed, x: np.ndarray, where: str) -> None:
    halves = [Packed.quantize(np, part, packed.format).planes["bytes"] for part in (x[:1], x[1:])]
    same = np.array_equal(np.concatenate(halves), packed.planes["bytes"])
    assert same, f"{where}: rows quantized apart are not the rows quantized together"


def _check_layouts(format: QuantFormat, packed: Packed, where: str) -> Iterator[tuple[str, Packed]]:
    fields = packed.unpack(np)
    for name, layout in LAYOUTS.items():
        if layout.accepts(format, packed.shape) is not None:
            continue
        moved = packed.relayout(np, name)
        for k, f in moved.unpack(np).items():
            assert bytes_of(f) == bytes_of(fields[k]), f"{where}: layout {name!r} loses bits of {k}"
        again = moved.relayout(np, "").planes["bytes"]
        assert np.array_equal(again, packed.planes["bytes"]), f"{where}: layout {name!r} and back is another array"
        if layout.by_rows:
            leading = {k: p.shape[: packed.ndim - 1] for k, p in moved.planes.items()}
            good = all(shape == packed.shape[:-1] for shape in leading.values())
            assert good, f"{where}: layout {name!r} says `by_rows`, but its planes begin with {leading}"
        yield f"{where}: JAX dequantizes layout {name!r} to other numbers", moved


def _check_jax(stored: list[tuple[str, Packed]]) -> None:
    import jax

    def traced(planes: list[Any]) -> list[Array]:
        return [p.with_planes(a, p.shape).dequantize(jax.numpy) for (_, p), a in zip(stored, planes, strict=True)]

    results = jax.jit(traced)([p.planes for _, p in stored])
    for (fault, p), ours in zip(stored, results, strict=True):
        assert np.array_equal(np.asarray(ours), p.dequantize(np), equal_nan=True), fault
