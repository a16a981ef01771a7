"""The law of formats."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from burnish.ir.format import LAYOUTS, FormatError, Packed, Parts, QuantFormat
from burnish.ir.op import Array
from burnish.testing.running import bytes_of, type_of

__all__ = ["check_format"]


def check_format(format: QuantFormat) -> None:
    """Raise AssertionError unless the format obeys the laws of every format.

    Its bytes read back as the parts that were written, and every byte is some part's; any bytes are some numbers; JAX
    dequantizes to the same numbers; every layout that accepts it keeps every bit, with leading axes as it has for each
    matrix alone; an axis that the group does not divide is refused. A format that floats are quantized to is off by at
    most a step of a grid of that many bits, keeps a group of zeros, and quantizes a row whatever the rows around it;
    one that is only read says so.
    """
    name = format.name
    doc = type(format).__doc__ or ""
    assert doc, f"{name} has no docstring"
    group, stored = format.group or 64, []
    rng = np.random.default_rng(0)
    for shape in ((6, 3 * group), (3 * group,), (2, 3, group), (2, 2, 9, group)):
        where = f"{name}, made up as {list(shape)}"
        stored += _check_packed(format, Packed.made_up(name, shape, rng), where)
    stored += _check_made(format) if format.is_made else []
    _check_jax(stored)
    _check_any_bytes(format, rng)
    if not format.is_made:
        try:
            Packed.quantize(np, np.zeros((1, group), np.float32), name)
        except FormatError:
            pass
        else:
            raise AssertionError(f"{name}: says that it is only read, and quantizes")
    if format.group > 1:
        try:
            format.check(format.group + 1)
        except FormatError:
            return
        raise AssertionError(f"{name}: accepts an axis of {format.group + 1}, which groups do not divide")


def _check_made(format: QuantFormat) -> list[tuple[str, Packed]]:
    stored: list[tuple[str, Packed]] = []
    for what, x in _samples(format.group or 64).items():
        where = f"{format.name}, {what}"
        before = x.tobytes()
        packed = Packed.quantize(np, x, format.name)
        assert x.tobytes() == before, f"{where}: quantize changed its operand"
        stored += _check_packed(format, packed, where)
        back = packed.dequantize(np)
        groups = x.reshape(*x.shape[:-1], -1, format.group_size(x.shape[-1]))
        step = format.largest_error(groups)
        error = np.abs(back.reshape(groups.shape) - groups)
        assert (error <= step).all(), f"{where}: rounding is off by {np.nanmax(error / step):.3g} steps"
        zero = (groups == 0).all(axis=-1)
        assert (back.reshape(groups.shape)[zero] == 0).all(), f"{where}: a group of zeros is not zero"
        _check_rows(packed, x, where)
    return stored


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


def _check_packed(format: QuantFormat, packed: Packed, where: str) -> list[tuple[str, Packed]]:
    _check_bytes(format, packed, where)
    back = format.dequantize(np, packed.unpack(np))
    assert back.dtype == np.float32 and back.shape == packed.shape, f"{where}: dequantizes to {type_of(back)}"
    assert bytes_of(packed.dequantize(np)) == bytes_of(back), f"{where}: some rows dequantize otherwise than all"
    return list(_check_layouts(format, packed, where))


def _check_bytes(format: QuantFormat, packed: Packed, where: str) -> None:
    data = packed.planes["bytes"]
    inputs = packed.shape[-1]
    good = data.dtype == np.uint8 and data.shape == (*packed.shape[:-1], format.row_bytes(inputs))
    assert good, f"{where}: bytes are {type_of(data)}, not rows of {format.row_bytes(inputs)}"
    if format.group:
        assert format.row_bytes(inputs) * 8 == format.bits * inputs, f"{where}: {format.bits} bits are not those bytes"
    parts = packed.unpack(np)
    for p in format.parts:
        wanted = np.dtype(p.dtype), (*packed.shape[:-1], format.elements(p, inputs))
        assert (parts[p.name].dtype, parts[p.name].shape) == wanted, f"{where}: {p.name} is {type_of(parts[p.name])}"
    again = LAYOUTS[""].pack(np, format, parts, packed.shape)["bytes"]
    assert np.array_equal(again, data), f"{where}: bytes, parts, bytes are not the same bytes"


def _check_rows(packed: Packed, x: np.ndarray, where: str) -> None:
    halves = [Packed.quantize(np, part, packed.format).planes["bytes"] for part in (x[:1], x[1:])]
    same = np.array_equal(np.concatenate(halves), packed.planes["bytes"])
    assert same, f"{where}: rows quantized apart are not the rows quantized together"


def _check_layouts(format: QuantFormat, packed: Packed, where: str) -> Iterator[tuple[str, Packed]]:
    parts = packed.unpack(np)
    for name, layout in LAYOUTS.items():
        if layout.accepts(format, packed.shape) is not None:
            continue
        if packed.ndim > 1:
            wanted = (*packed.shape[:-2], -(-packed.shape[-2] // layout.tile))
            planes = layout.pack(np, format, parts, packed.shape)
            leading = {k: p.shape[: packed.ndim - 1] for k, p in planes.items()}
            good = all(shape == wanted for shape in leading.values())
            assert good, f"{where}: planes of layout {name!r} begin with {leading}, not {wanted}"
        moved = packed.relayout(np, name)
        _check_same(parts, moved.unpack(np), f"{where}: layout {name!r}")
        again = moved.relayout(np, "").planes["bytes"]
        assert np.array_equal(again, packed.planes["bytes"]), f"{where}: layout {name!r} and back is another array"
        if packed.ndim > 2:
            first = packed.with_planes({k: p[0] for k, p in packed.planes.items()}, packed.shape[1:])
            for k, p in first.relayout(np, name).planes.items():
                same = bytes_of(p) == bytes_of(moved.planes[k][0])
                assert same, f"{where}: layout {name!r} has the first of a stack otherwise than alone: {k}"
        yield f"{where}: JAX dequantizes layout {name!r} to other numbers", moved


def _check_same(parts: Parts, others: Parts, where: str) -> None:
    for k, f in others.items():
        assert bytes_of(f) == bytes_of(parts[k]), f"{where} loses bits of {k}"


def _check_any_bytes(format: QuantFormat, rng: np.random.Generator) -> None:
    """Infinite scales and such that are not a number too: no error, no warning, no bit lost."""
    inputs = 2 * (format.group or 64)
    data = rng.integers(0, 256, (300, format.row_bytes(inputs)), np.uint8)
    packed, where = Packed(format.name, "", (300, inputs), {"bytes": data}), f"{format.name}, random bytes"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            packed.dequantize(np)
            for _ in _check_layouts(format, packed, where):
                pass
        except (ArithmeticError, ValueError, Warning) as e:
            raise AssertionError(f"{where}: {e}") from e


def _check_jax(stored: list[tuple[str, Packed]]) -> None:
    import jax

    alike: dict[tuple[str, tuple[int, ...]], list[tuple[str, Packed]]] = {}  # in all but numbers: one is compiled
    for fault, p in stored:
        alike.setdefault((p.layout, p.shape), []).append((fault, p))
    firsts = [first for (_, first), *_ in alike.values()]

    @jax.jit
    def dequantized(planes: list[Any]) -> list[Array]:
        return [p.with_planes(a, p.shape).dequantize(jax.numpy) for p, a in zip(firsts, planes, strict=True)]

    for i in range(max(map(len, alike.values()))):
        now = [some[i % len(some)] for some in alike.values()]
        for (fault, p), ours in zip(now, dequantized([p.planes for _, p in now]), strict=True):
            assert np.array_equal(np.asarray(ours), p.dequantize(np), equal_nan=True), fault
