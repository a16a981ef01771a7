"""The default layout: the bytes of a file, group by group, as a format's `block` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.ir.format import Array, Layout, Parts, QuantFormat, view
from burnish.ir.parts import Bytes, Raw

__all__ = ["Blocks", "from_bytes", "to_bytes"]

Fields = Sequence[Raw | Bytes]


class Blocks(Layout):
    """The layout of files: the parts of a group side by side, as ggml's block structs are.

    One plane, `bytes`: u8[..., row_bytes].
    """

    name = ""

    def pack(self, xp: Any, format: QuantFormat, parts: Parts, shape: tuple[int, ...]) -> Mapping[str, Array]:
        """Parts -> u8[..., row_bytes]."""
        fields = format.fields(format.group_size(shape[-1]))
        return {"bytes": to_bytes(xp, format, fields, parts, shape)}

    def unpack(self, xp: Any, format: QuantFormat, planes: Mapping[str, Array], shape: tuple[int, ...]) -> Parts:
        """u8[..., row_bytes] -> parts."""
        fields = format.fields(format.group_size(shape[-1]))
        found = from_bytes(xp, format, fields, planes["bytes"], shape)
        return {p.name: found[p.name] for p in format.parts}


def to_bytes(xp: Any, format: QuantFormat, fields: Fields, parts: Parts, shape: tuple[int, ...]) -> Array:
    """The fields of each group, out of parts [..., elements of a row] -> u8[..., bytes of a row]."""
    groups, size = _groups(format, shape)
    grouped = {
        p.name: parts[p.name].reshape(*shape[:-1], groups, format.elements(p, size))
        for p in format.parts
        if p.name in parts
    }
    made = []
    for f in fields:
        if isinstance(f, Raw):
            made.append(view(xp, _negated(xp, grouped[f.part]) if f.negated else grouped[f.part], "u1"))
            continue
        byte, at = None, 0
        for bits in f.bits:
            values = grouped[bits.part][..., bits.first : bits.first + (f.size - 1) * bits.step + 1 : bits.step]
            values = (values >> bits.low & (1 << bits.width) - 1) << at
            byte, at = values if byte is None else byte | values, at + bits.width
        made.append(byte)
    joined = made[0] if len(made) == 1 else xp.concatenate(made, axis=-1)
    return joined.reshape(*shape[:-1], groups * joined.shape[-1])


def from_bytes(xp: Any, format: QuantFormat, fields: Fields, data: Array, shape: tuple[int, ...]) -> dict[str, Array]:
    """The inverse of `to_bytes`: the parts that the fields hold."""
    groups, size = _groups(format, shape)
    data = data.reshape(*shape[:-1], groups, data.shape[-1] // groups if groups else 0)
    sizes = {p.name: format.elements(p, size) for p in format.parts}
    found: dict[str, Array] = {}
    narrow: dict[tuple[str, int], list[tuple[int, int, Array]]] = {}  # by part and lowest bit: first, step, values
    at = 0
    for f in fields:
        if isinstance(f, Raw):
            part = format.part(f.part)
            assert part is not None
            end = at + sizes[f.part] * np.dtype(part.dtype).itemsize
            x = view(xp, data[..., at:end], part.dtype)
            found[f.part] = _negated(xp, x) if f.negated else x
        else:
            end, shift = at + f.size, 0
            byte = data[..., at:end]
            byte = np.ascontiguousarray(byte) if xp is np else byte
            for bits in f.bits:
                values = byte >> shift & (1 << bits.width) - 1 if bits.width < 8 else byte
                narrow.setdefault((bits.part, bits.low), []).append((bits.first, bits.step, values))
                shift += bits.width
        at = end
    for (name, low), pieces in narrow.items():
        values = _joined(xp, pieces, sizes[name])
        found[name] = found[name] | values << low if name in found else values << low if low else values
    return {name: x.reshape(*shape[:-1], groups * x.shape[-1]) for name, x in found.items()}


def _joined(xp: Any, pieces: list[tuple[int, int, Array]], count: int) -> Array:
    """Elements first, first + step, … from each piece, and zeros where no piece has any."""
    pieces.sort(key=lambda piece: piece[0])
    if pieces[0][1] > 1:
        x = xp.stack([values for _, _, values in pieces], axis=-1)
        return x.reshape(*x.shape[:-2], count)
    filled, at = [], 0
    for first, _, values in pieces:
        if first > at:
            filled.append(xp.zeros((*values.shape[:-1], first - at), "uint8"))
        filled.append(values)
        at = first + values.shape[-1]
    return filled[0] if len(filled) == 1 else xp.concatenate(filled, axis=-1)


def _negated(xp: Any, x: Array) -> Array:
    """-x of floats, bit for bit: of what is not a number too."""
    bits = 8 * x.dtype.itemsize
    return view(xp, view(xp, x, f"u{bits // 8}") ^ np.dtype(f"u{bits // 8}").type(1 << bits - 1), str(x.dtype))


def _groups(format: QuantFormat, shape: tuple[int, ...]) -> tuple[int, int]:
    """How many groups a row has, and their size."""
    size = format.group_size(shape[-1])
    return shape[-1] // size if size else 0, size
