"""Each part an array of its own: what XLA reads best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.ir.format import Array, Layout, Parts, QuantFormat
from burnish.ir.layouts.blocks import from_bytes, to_bytes


class Planes(Layout):
    """A plane for each part, by its name: [..., elements of a row]; of codes below 8 bits, u8[..., bytes of a row]."""

    name = "planes"

    def pack(self, xp: Any, format: QuantFormat, parts: Parts, shape: tuple[int, ...]) -> Mapping[str, Array]:
        """Parts -> planes."""
        code = format.code
        fields = format.fields_of(code, format.group_size(shape[-1]))
        packed = to_bytes(xp, format, fields, {code.name: parts[code.name]}, shape) if code.width < 8 else None
        return {name: x if packed is None or name != code.name else packed for name, x in parts.items()}

    def unpack(self, xp: Any, format: QuantFormat, planes: Mapping[str, Array], shape: tuple[int, ...]) -> Parts:
        """Planes -> parts."""
        code = format.code
        if code.width >= 8:
            return dict(planes)
        fields = format.fields_of(code, format.group_size(shape[-1]))
        return {**planes, **from_bytes(xp, format, fields, planes[code.name], shape)}
