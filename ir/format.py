"""Quantized storage: formats (what the numbers mean), layouts (where the bits lie), and packed values.

A `QuantFormat` is its logical `Part`s (a code an input; scales, minima and zero points of each group) and what they
mean together. A `Layout` packs the parts as bytes and unpacks them; changing one is exact. A format or a layout is one
class in one file, registered by being defined.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from burnish.ir.dims import Dim, dim_text
from burnish.ir.parts import Bytes, Part, Raw, slices, spread
from burnish.ir.registry import Registry

__all__ = [
    "FORMATS",
    "LAYOUTS",
    "FormatError",
    "Layout",
    "Packed",
    "Parts",
    "QuantFormat",
    "QuantizeError",
    "reciprocal",
    "view",
]

Array = Any  # a numpy.ndarray or a jax.Array
Parts = Mapping[str, Array]  # name -> [..., elements of a row]
#: the parts of which `QuantFormat.dequantize` makes numbers, and of what there is one each
MEANT = {"code": "input", "scale": "group", "minimum": "group", "zero": "group", "subscale": "run", "subminimum": "run"}
#: where no scale is larger, f16 has 4 bits or fewer for each: what is made of them is noise, or zeros
LEAST_SCALE = 2.0**-20
BLOCK = 1 << 17  # weights that NumPy converts at once: so many, and what they become, stay in a core's cache


class FormatError(TypeError):
    """A format or layout applied where it does not fit."""


class QuantizeError(ArithmeticError):
    """Weights that a format cannot hold."""


class QuantFormat:
    """A quantized element type, defined by one subclass. Its name is the class's, in lower case.

    `group` inputs along the last axis share a scale; 0 means the whole row. Within a group, `run` inputs may share
    further parts. Unless a format has a meaning of its own, in its `dequantize`, its parts are called

        code                    one for each input
        scale, minimum, zero    one for each group; without a zero point of its own, `zero` is the class's
        subscale, subminimum    one for each run, factors of the group's

    and the number is  scale * subscale * (code - zero) + minimum * subminimum,  without the parts that it lacks.
    """

    name: ClassVar[str]
    group: ClassVar[int]
    run: ClassVar[int] = 0  # the group, unless given
    parts: ClassVar[tuple[Part, ...]]
    zero: ClassVar[int] = 0
    #: a group as bytes in a file: ggml's block, in its order; without one, the parts in theirs: see `fields_of`
    block: ClassVar[tuple[Raw | Bytes, ...]] = ()

    def __init_subclass__(cls, replace: bool = False) -> None:
        cls.name = cls.__name__.lower()
        if cls.__name__.startswith("_"):
            return
        if sum(p.per == "input" for p in cls.parts) != 1:
            raise FormatError(f"{cls.name}: one part, the code, has an element for each input")
        if cls.run and cls.group % cls.run:
            raise FormatError(f"{cls.name}: runs of {cls.run} do not divide groups of {cls.group}")
        if cls.dequantize is QuantFormat.dequantize:
            for p in cls.parts:
                if MEANT.get(p.name) != p.per:
                    raise FormatError(f"{cls.name}: without a `dequantize` of its own, no {p.name!r} for each {p.per}")
        FORMATS.add(cls.name, cls(), replace)

    def quantize(self, x: np.ndarray) -> Parts:
        """f32[..., groups, group] -> each part as [..., groups, its elements]. The same bytes on every machine.

        Written for NumPy arrays; a format that quantizes activations must accept `jax.numpy` arrays as well. Raises
        FormatError where the format is only read.
        """
        raise FormatError(f"{self.name} is read, not made, yet: floats are not quantized to it")

    def largest_error(self, x: np.ndarray) -> np.ndarray:
        """f32[..., groups, group] -> [..., groups, 1]: how far off what `quantize` made of a group may be.

        A step of a grid of that many bits up to the group's largest number, whose scale is rounded to f16.
        """
        largest = np.abs(x).max(axis=-1, keepdims=True)
        return np.asarray(largest / 2.0 ** (self.code.width - 1) * (1 + 2**-8) + 2.0**-24)  # f16's smallest

    @property
    def is_made(self) -> bool:
        """Whether floats can be quantized to it."""
        return type(self).quantize is not QuantFormat.quantize

    def dequantize(self, xp: Any, parts: Parts) -> Array:
        """Parts, each [..., elements of a row] -> f32[..., inputs], in numpy or jax.numpy (`xp`)."""
        *lead, inputs = parts["code"].shape
        group = self.group_size(inputs)
        groups, runs = (inputs // group, group // (self.run or group)) if group else (0, 1)

        def floats(name: str, *axes: int) -> Array:
            return parts[name].reshape(*lead, groups, *axes, 1).astype("float32")

        code = floats("code", runs, group // runs)[..., 0]
        if "zero" in parts:
            code = code - floats("zero", 1)
        elif self.zero:
            code = code - np.float32(self.zero)
        scale = floats("scale", 1) * floats("subscale", runs) if "subscale" in parts else floats("scale", 1)
        x = scale * code
        if "minimum" in parts:
            least = floats("minimum", 1)
            x = x + (least * floats("subminimum", runs) if "subminimum" in parts else least)
        return x.reshape(*lead, inputs)

    @property
    def code(self) -> Part:
        """The part of which there is one for each input."""
        return next(p for p in self.parts if p.per == "input")

    def part(self, name: str) -> Part | None:
        """The part of that name."""
        return next((p for p in self.parts if p.name == name), None)

    def check(self, inputs: Dim) -> None:
        """Raise FormatError where the group does not divide `inputs`, the size of the last axis."""
        if self.group and (not isinstance(inputs, int) or inputs % self.group):
            raise FormatError(f"{self.name}: groups of {self.group} do not divide an input axis of {dim_text(inputs)}")

    def group_size(self, inputs: int) -> int:
        """The number of inputs in a group of a row of `inputs`."""
        return self.group or inputs

    def elements(self, part: Part, inputs: int) -> int:
        """The number of elements that a part has for `inputs` inputs: a group, or a whole row."""
        group = self.group_size(inputs)
        each = {"input": 1, "run": self.run or group, "group": group}[part.per]
        return inputs // each if each else 0

    def fields_of(self, part: Part, group: int) -> tuple[Raw | Bytes, ...]:
        """A part of a group as bytes, where a block does not say it: bits below 8 are spread over the group."""
        if part.width % 8 == 0:
            return (Raw(part.name),)
        count, fields, low = self.elements(part, group), list[Raw | Bytes](), 0
        for width in slices(part.width):
            fields += spread(part.name, count, count, width, low)
            low += width
        return tuple(fields)

    def fields(self, group: int) -> tuple[Raw | Bytes, ...]:
        """A group of `group` inputs as bytes in a file."""
        return self.block or tuple(f for part in self.parts for f in self.fields_of(part, group))

    def row_bytes(self, inputs: Dim) -> int:
        """The bytes of one row of `inputs`."""
        if not isinstance(inputs, int):
            raise FormatError(f"{self.name}: the input axis must be a number, not {inputs}")
        return sum(self.elements(p, inputs) * p.width for p in self.parts) // 8

    @property
    def bits(self) -> float:
        """Bits an input; of a format without groups, without its scale."""
        return 8 * self.row_bytes(self.group) / self.group if self.group else float(self.code.width)


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
    def quantize(cls, xp: Any, x: Array, format: str, checked: bool = False) -> Packed:
        """Quantize f32[..., K] into the default layout. Raises FormatError where the format does not fit.

        Bytes are made of any numbers, as ggml makes them; `checked` (NumPy alone), QuantizeError is raised for those
        that the format cannot hold: what is not finite, and what has scales beyond its f16 or far below.
        """
        fmt = FORMATS[format]
        fmt.check(x.shape[-1])
        group = fmt.group_size(x.shape[-1])
        with np.errstate(over="ignore", invalid="ignore"):
            parts = fmt.quantize(x.reshape(*x.shape[:-1], x.shape[-1] // group if group else 0, group))
        if checked:
            _check_held(x, [parts[p.name] for p in fmt.parts if p.dtype == "f2"])
        rows = {p.name: parts[p.name].reshape(*x.shape[:-1], fmt.elements(p, x.shape[-1])) for p in fmt.parts}
        return cls(format, "", tuple(x.shape), LAYOUTS[""].pack(xp, fmt, rows, tuple(x.shape)))

    @classmethod
    def of_parts(cls, xp: Any, format: str, parts: Parts) -> Packed:
        """The array that logical parts make, in the default layout: the same bytes on every machine.

        Each part is [..., elements of a row], of its own dtype: for `int4_128`, code u8[N, K], scale f16[N, K / 128],
        zero u8[N, K / 128]. Raises FormatError where one is missing or unknown, of another type or shape, or where
        NumPy's integers need more bits than the part has.
        """
        fmt = FORMATS[format]
        names = [p.name for p in fmt.parts]
        if set(parts) != set(names):
            raise FormatError(f"{format} is made of {', '.join(names)}, not of {', '.join(parts)}")
        *lead, inputs = parts[fmt.code.name].shape
        fmt.check(inputs)
        for p in fmt.parts:
            x, shape = parts[p.name], (*lead, fmt.elements(p, inputs))
            if x.dtype != np.dtype(p.dtype) or x.shape != shape:
                wanted = f"{np.dtype(p.dtype)}{list(shape)}"
                raise FormatError(f"{format}: {p.name} is {x.dtype}{list(x.shape)}, not {wanted}")
            if xp is np and p.dtype == "u1" and x.size and int(x.max()) >> p.width:
                raise FormatError(f"{format}: {p.name} has {p.width} bits, which do not hold {x.max()}")
        return cls(format, "", (*lead, inputs), LAYOUTS[""].pack(xp, fmt, parts, (*lead, inputs)))

    @classmethod
    def made_up(cls, format: str, shape: tuple[int, ...], rng: np.random.Generator, size: float = 1) -> Packed:
        """Random numbers of about `size`, for checks: any codes, with scales to match. Made of parts, not of floats."""
        fmt = FORMATS[format]
        parts = {}
        for p in fmt.parts:
            wanted = (*shape[:-1], fmt.elements(p, shape[-1]))
            if np.dtype(p.dtype).kind == "f":
                factors = [f for f in fmt.parts if f.name == f"sub{p.name}" or (p.name == "scale" and f is fmt.code)]
                most = math.prod(2.0 ** (f.width - 1) for f in factors)
                sign = -1 if p.name == "minimum" else 1
                parts[p.name] = (sign * size / most * rng.uniform(0.5, 1, wanted)).astype(p.dtype)
            else:
                bits = fmt.code.width if p.name == "zero" else p.width
                unsigned = f"u{np.dtype(p.dtype).itemsize}"
                parts[p.name] = rng.integers(0, 1 << bits, wanted).astype(unsigned).view(p.dtype)
        return cls.of_parts(np, format, parts)

    def unpack(self, xp: Any) -> Parts:
        """The format's logical parts, out of whatever layout."""
        return LAYOUTS[self.layout].unpack(xp, FORMATS[self.format], self.planes, self.shape)

    def dequantize(self, xp: Any) -> Array:
        """f32[..., K]. Any bytes are some numbers: scales that are infinite or not a number give such."""
        fmt = FORMATS[self.format]
        with np.errstate(all="ignore"):
            if xp is not np:
                return fmt.dequantize(xp, self.unpack(xp))
            x = np.empty(self.shape, np.float32)
            for index, rows, part in self._in_blocks():
                x[_tiles(index, rows, 1)] = fmt.dequantize(np, part.unpack(np))
            return x

    def relayout(self, xp: Any, layout: str) -> Packed:
        """The same numbers, exactly, in another layout; planes of NumPy's begin at multiples of 64 bytes."""
        if layout == self.layout:
            return self
        fmt, target = FORMATS[self.format], LAYOUTS[layout]
        if xp is not np:
            return Packed(self.format, layout, self.shape, target.pack(xp, fmt, self.unpack(xp), self.shape))
        planes: dict[str, np.ndarray] = {}
        for index, rows, part in self._in_blocks(target.tile):
            for name, plane in target.pack(np, fmt, part.unpack(np), part.shape).items():
                if name not in planes:
                    inner = plane.shape[part.ndim - 1 :]
                    whole = (*self.shape[:-2], -(-self.shape[-2] // target.tile)) if part.ndim > 1 else ()
                    planes[name] = aligned((*whole, *inner), plane.dtype)
                planes[name][_tiles(index, rows, target.tile)] = plane
        return Packed(self.format, layout, self.shape, planes)

    def with_planes(self, planes: Mapping[str, Array], shape: tuple[int, ...]) -> Packed:
        """Another array of this format and layout."""
        return Packed(self.format, self.layout, shape, planes)

    def _in_blocks(self, tile: int = 1) -> Iterator[tuple[tuple[int, ...], slice, Packed]]:
        """Some rows at a time, whole tiles of them in both layouts: the leading indices, the rows, and those rows.

        At least one, which may be empty.
        """
        if self.ndim < 2 or 0 in self.shape:
            yield (), slice(None), self
            return
        *lead, rows, inputs = self.shape
        here = LAYOUTS[self.layout].tile
        together = math.lcm(tile, here)
        step = max(1, BLOCK // inputs // together) * together
        for index in np.ndindex(*lead):
            for start in range(0, rows, step):
                part = slice(start, min(start + step, rows))
                planes = {name: plane[_tiles(index, part, here)] for name, plane in self.planes.items()}
                yield index, part, self.with_planes(planes, (part.stop - part.start, inputs))


def _check_held(x: np.ndarray, halves: Sequence[np.ndarray]) -> None:
    """`halves` are the scales and minima in f16 that were made of x."""
    if not x.size:
        return
    if not np.isfinite(most := np.abs(x).max()):
        raise QuantizeError(f"{int((~np.isfinite(x)).sum())} of its numbers are NaN or infinite")
    kept = max((float(np.abs(h).max()) for h in halves), default=float(most))
    if not np.isfinite(kept):
        raise QuantizeError(f"a scale is beyond f16, which ends at 65504: its largest number is {most:g}")
    if kept < LEAST_SCALE and halves and most > 0:
        raise QuantizeError(f"all scales are far below what f16 holds: its largest number is {most:g}")


class Layout:
    """An arrangement of a format's parts, defined by one subclass that gives a `name`.

    Every plane begins with the leading axes of the shape (all but the last two, experts say), then has the rows, or
    tiles of `tile` rows where the layout puts rows together.
    """

    name: ClassVar[str]
    tile: ClassVar[int] = 1

    def __init_subclass__(cls, replace: bool = False) -> None:
        if "name" in cls.__dict__:
            LAYOUTS.add(cls.name, cls(), replace)

    @property
    def by_rows(self) -> bool:
        """Whether rows can be sliced, gathered and joined plane by plane."""
        return self.tile == 1

    def accepts(self, format: QuantFormat, shape: tuple[Dim, ...]) -> str | None:
        """None, or why a tensor of `shape` in `format` cannot lie so."""
        return None

    def pack(self, xp: Any, format: QuantFormat, parts: Parts, shape: tuple[int, ...]) -> Mapping[str, Array]:
        """Parts -> planes."""
        raise NotImplementedError

    def unpack(self, xp: Any, format: QuantFormat, planes: Mapping[str, Array], shape: tuple[int, ...]) -> Parts:
        """Planes -> parts."""
        raise NotImplementedError


FORMATS: Registry[QuantFormat] = Registry("format")
LAYOUTS: Registry[Layout] = Registry("layout")


def reciprocal(d: np.ndarray) -> np.ndarray:
    """1 / d, and 0 where that is infinite: groups of zeros, and of numbers so small that their scale is 0 in f16."""
    result: np.ndarray = np.divide(np.float32(1), d, out=np.zeros_like(d), where=np.abs(d) > np.float32(2**-128))
    return result


def view(xp: Any, x: Array, dtype: str) -> Array:
    """The bytes of x[..., n] as elements of another dtype, [..., n * old size / new size]."""
    if xp is np:
        return np.ascontiguousarray(x).view(dtype)
    import jax

    old, new = x.dtype.itemsize, np.dtype(dtype).itemsize
    if new > old:
        x = x.reshape(*x.shape[:-1], x.shape[-1] * old // new, new // old)
    y = jax.lax.bitcast_convert_type(x, dtype)
    return y.reshape(*x.shape[:-1], x.shape[-1] * old // new) if new < old else y


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An empty array at a multiple of 64 bytes; at NumPy's 16, every second 32-byte load crosses a cache line."""
    size = math.prod(shape) * dtype.itemsize
    buffer = np.empty(size + 63, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + size].view(dtype).reshape(shape)


def _tiles(index: tuple[int, ...], rows: slice, tile: int) -> tuple[int | slice, ...]:
    """The tiles that the rows lie in, of the matrix at `index`."""
    return (*index, rows if rows.start is None else slice(rows.start // tile, -(-rows.stop // tile)))
