"""Quantized storage: formats (the numerics), layouts (where the bits lie), and packed values.

A `QuantFormat` splits the last axis into groups that share a scale, and says how a group is quantized and
dequantized. Its fields (scales, codes, …) can lie in memory in several `Layout`s; changing one is exact. A format or
a layout is one class in one file, registered by being defined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from burnish.ir.dims import Dim, dim_text
from burnish.ir.registry import Registry

__all__ = ["FORMATS", "LAYOUTS", "Field", "FormatError", "Layout", "Packed", "QuantFormat", "reciprocal"]

Array = Any  # a numpy.ndarray or a jax.Array
Fields = dict[str, Array]  # field name -> [..., groups, count]


@dataclass(frozen=True)
class Field:
    """One part of a group: `count` elements of `dtype`, or, where `bits` is given, that many bits per input."""

    name: str
    dtype: str  # a NumPy dtype string
    count: int = 1
    bits: int = 0

    def size(self, group: int) -> int:
        """The number of elements in a group of `group` inputs."""
        return group * self.bits // (8 * np.dtype(self.dtype).itemsize) if self.bits else self.count


class QuantFormat:
    """A quantized element type, defined by one subclass. Its name is the class's, in lower case.

    `group` inputs along the last axis share a scale; 0 means the whole row. `fields` are in the order of the bytes
    in a file.
    """

    name: ClassVar[str]
    group: ClassVar[int]
    fields: ClassVar[tuple[Field, ...]]

    def __init_subclass__(cls, replace: bool = False) -> None:
        cls.name = cls.__name__.lower()
        if not cls.__name__.startswith("_"):
            FORMATS.add(cls.name, cls(), replace)

    def quantize(self, x: np.ndarray) -> Fields:
        """f32[..., groups, group] -> each field as [..., groups, size]. The same bytes on every machine.

        Written for NumPy arrays; a format that quantizes activations must accept `jax.numpy` arrays as well.
        """
        raise NotImplementedError

    def dequantize(self, xp: Any, fields: Fields) -> Array:
        """Fields -> f32[..., groups, group], in numpy or jax.numpy (`xp`)."""
        raise NotImplementedError

    def check(self, inputs: Dim) -> None:
        """Raise FormatError where the group does not divide `inputs`, the size of the last axis."""
        if self.group and (not isinstance(inputs, int) or inputs % self.group):
            raise FormatError(f"{self.name}: groups of {self.group} do not divide an input axis of {dim_text(inputs)}")

    def group_size(self, inputs: int) -> int:
        """The number of inputs in a group of a row of `inputs`."""
        return self.group or inputs

    def row_bytes(self, inputs: Dim) -> int:
        """The bytes of one row of `inputs`."""
        if not isinstance(inputs, int):
            raise FormatError(f"{self.name}: the input axis must be a number, not {inputs}")
        group = self.group_size(inputs)
        return (inputs // group if group else 0) * sum(f.size(group) * np.dtype(f.dtype).itemsize for f in self.fields)

    @property
    def bits(self) -> float:
        """Bits an input; of a format without groups, without its scale."""
        if not self.group:
            return float(sum(f.bits for f in self.fields))
        return 8 * sum(f.size(self.group) * np.dtype(f.dtype).itemsize for f in self.fields) / self.group


class FormatError(TypeError):
    """A format or layout applied where it does not fit."""


@dataclass(frozen=True)
class Packed:
    """A quantized array: `planes` as its layout arranges them. Both backends treat it as a bundle of arrays."""

    format: str
    layout: str
    shape: tuple[int, ...]
    planes: Mapping[str, Array] = field(repr=False)

    @property
    def dtype(self) -> str:
        """The format's name."""
        return self.format

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The size of all planes in bytes."""
        return int(sum(p.nbytes for p in self.planes.values()))

    @classmethod
    def quantize(cls, xp: Any, x: Array, format: str) -> Packed:
        """Quantize f32[..., K] into the default layout."""
        fmt = FORMATS[format]
        fmt.check(x.shape[-1])
        group = fmt.group_size(x.shape[-1])
        fields = fmt.quantize(x.reshape(*x.shape[:-1], x.shape[-1] // group if group else 0, group))
        return cls(format, "", tuple(x.shape), LAYOUTS[""].pack(xp, fmt, fields, tuple(x.shape)))

    def unpack(self, xp: Any) -> Fields:
        """The format's fields, out of whatever layout."""
        return LAYOUTS[self.layout].unpack(xp, FORMATS[self.format], self.planes, self.shape)

    def dequantize(self, xp: Any) -> Array:
        """f32[..., K]."""
        return FORMATS[self.format].dequantize(xp, self.unpack(xp)).reshape(self.shape)

    def relayout(self, xp: Any, layout: str) -> Packed:
        """The same numbers, exactly, in another layout."""
        if layout == self.layout:
            return self
        planes = LAYOUTS[layout].pack(xp, FORMATS[self.format], self.unpack(xp), self.shape)
        return Packed(self.format, layout, self.shape, planes)

    def with_planes(self, planes: Mapping[str, Array], shape: tuple[int, ...]) -> Packed:
        """Another array of this format and layout."""
        return Packed(self.format, self.layout, shape, planes)


class Layout:
    """An arrangement of a format's fields, defined by one subclass and known by its `name`.

    `by_rows` says that every plane keeps the leading axes of the shape, so that rows can be sliced, gathered and
    joined plane by plane.
    """

    name: ClassVar[str]
    by_rows: ClassVar[bool] = True

    def __init_subclass__(cls, replace: bool = False) -> None:
        if not cls.__name__.startswith("_"):
            LAYOUTS.add(cls.name, cls(), replace)

    def accepts(self, format: QuantFormat, shape: tuple[Dim, ...]) -> str | None:
        """None, or why a tensor of `shape` in `format` cannot lie so."""
        return None

    def pack(self, xp: Any, format: QuantFormat, fields: Fields, shape: tuple[int, ...]) -> Mapping[str, Array]:
        """Fields -> planes."""
        raise NotImplementedError

    def unpack(self, xp: Any, format: QuantFormat, planes: Mapping[str, Array], shape: tuple[int, ...]) -> Fields:
        """Planes -> fields."""
        raise NotImplementedError


def reciprocal(d: np.ndarray) -> np.ndarray:
    """1 / d, and 0 where that is infinite: groups of zeros, and of numbers so small that their scale is 0 in f16."""
    result: np.ndarray = np.divide(np.float32(1), d, out=np.zeros_like(d), where=np.abs(d) > np.float32(2**-128))
    return result


FORMATS: Registry[QuantFormat] = Registry("format")
LAYOUTS: Registry[Layout] = Registry("layout")


class Blocks(Layout):
    """The default, and the layout of files: the fields of a group side by side, as ggml's block structs are.

    One plane, `bytes`: u8[..., row_bytes].
    """

    name = ""

    def pack(self, xp: Any, format: QuantFormat, fields: Fields, shape: tuple[int, ...]) -> Mapping[str, Array]:
        """Fields -> u8[..., row_bytes]."""
        parts = [_as_bytes(xp, fields[f.name]) for f in format.fields]
        return {"bytes": xp.concatenate(parts, axis=-1).reshape(*shape[:-1], format.row_bytes(shape[-1]))}

    def unpack(self, xp: Any, format: QuantFormat, planes: Mapping[str, Array], shape: tuple[int, ...]) -> Fields:
        """u8[..., row_bytes] -> fields."""
        group = format.group_size(shape[-1])
        groups = shape[-1] // group if group else 0
        blocks = planes["bytes"].reshape(*shape[:-1], groups, format.row_bytes(group))
        fields, at = {}, 0
        for f in format.fields:
            size = f.size(group) * np.dtype(f.dtype).itemsize
            fields[f.name] = _from_bytes(xp, blocks[..., at : at + size], f.dtype)
            at += size
        return fields


class Planes(Layout):
    """Each field an array of its own, [..., groups, size]: what XLA reads best."""

    name = "planes"

    def pack(self, xp: Any, format: QuantFormat, fields: Fields, shape: tuple[int, ...]) -> Mapping[str, Array]:
        """Fields are the planes."""
        return fields

    def unpack(self, xp: Any, format: QuantFormat, planes: Mapping[str, Array], shape: tuple[int, ...]) -> Fields:
        """Planes are the fields."""
        return dict(planes)


def _as_bytes(xp: Any, x: Array) -> Array:
    if xp is np:
        return np.ascontiguousarray(x).view(np.uint8)
    import jax

    y = jax.lax.bitcast_convert_type(x, "uint8")
    return y if y.ndim == x.ndim else y.reshape(*x.shape[:-1], -1)


def _from_bytes(xp: Any, x: Array, dtype: str) -> Array:
    if xp is np:
        return np.ascontiguousarray(x).view(dtype)
    import jax

    size = np.dtype(dtype).itemsize
    return jax.lax.bitcast_convert_type(x if size == 1 else x.reshape(*x.shape[:-1], -1, size), dtype)
