"""Value types: an element type and a shape of dimensions, and for quantized storage a layout.

The text form is the one that graphs are printed in: `bf16[B, S, 2048]`, `q4_0[4096, 4096]`, `q4_0.tiles8[4096, 4096]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from burnish.ir.dims import Dim, bind, dim_text, product, symbols_of
from burnish.ir.format import FORMATS, FormatError, QuantFormat

__all__ = ["NUMPY", "InferError", "Type", "dtype_name", "holds", "require"]

# Element types by name. ml_dtypes registers bfloat16 with NumPy.
NUMPY: dict[str, np.dtype] = {
    "bool": np.dtype("bool"),
    "i8": np.dtype("int8"),
    "i16": np.dtype("int16"),
    "i32": np.dtype("int32"),
    "i64": np.dtype("int64"),
    "u8": np.dtype("uint8"),
    "u16": np.dtype("uint16"),
    "u32": np.dtype("uint32"),
    "u64": np.dtype("uint64"),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f16": np.dtype("float16"),
    "f32": np.dtype("float32"),
    "f64": np.dtype("float64"),
}
_NAMES = {d: name for name, d in NUMPY.items()}
FLOATS = ("bf16", "f16", "f32", "f64")


class InferError(TypeError):
    """An op applied to operands, or given attributes, that it does not accept."""


def require(condition: object, message: str) -> None:
    """Raise InferError(message) unless `condition` holds."""
    if not condition:
        raise InferError(message)


def holds(b: str, a: str) -> bool:
    """Whether every value of the plain element type `a` is one of `b`."""
    digits = (a, b) not in (("i64", "f64"), ("u64", "f64"))  # which NumPy calls safe
    return digits and bool(np.can_cast(NUMPY[a], NUMPY[b], "safe"))


def dtype_name(dtype: np.dtype) -> str:
    """Our name of a NumPy dtype. Raises InferError for one that has none (strings, complex numbers)."""
    name = _NAMES.get(dtype)
    if name is None:
        raise InferError(f"element type {dtype} is not supported")
    return name


@dataclass(frozen=True, slots=True)
class Type:
    """The type of a value.

    `dtype` is a key of NUMPY or of FORMATS; `layout`, for a quantized dtype, is how its bits lie in memory.
    """

    dtype: str
    shape: tuple[Dim, ...]
    layout: str = ""

    def __post_init__(self) -> None:
        packed = self.dtype in FORMATS
        require(packed or self.dtype in NUMPY, f"unknown element type {self.dtype!r}, built in or of a plugin")
        require(packed or not self.layout, f"{self.dtype} has no layouts")
        if packed:
            require(self.shape, f"{self.dtype} needs at least one axis")
            try:
                FORMATS[self.dtype].check(self.shape[-1])
            except FormatError as e:
                raise InferError(str(e)) from None
        if any(isinstance(d, int) and d < 0 for d in self.shape):
            raise InferError(f"{self} has a negative size")

    def __str__(self) -> str:
        layout = f".{self.layout}" if self.layout else ""
        return f"{self.dtype}{layout}[{', '.join(map(dim_text, self.shape))}]"

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether elements are plain floating-point numbers."""
        return self.dtype in FLOATS

    @property
    def is_integer(self) -> bool:
        """Whether elements are plain integers (bool is not)."""
        return self.dtype[0] in "iu" and self.dtype in NUMPY

    @property
    def format(self) -> QuantFormat | None:
        """The quantized format, or None for plain elements."""
        return FORMATS.get(self.dtype)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of the symbols in the shape, in order of first appearance."""
        return tuple(dict.fromkeys([s for d in self.shape if not isinstance(d, int) for s in symbols_of(d)]))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape, all of it numbers. Raises InferError where a symbol is left."""
        sizes = tuple([d for d in self.shape if isinstance(d, int)])
        if len(sizes) != self.rank:
            raise InferError(f"{self} still has symbols")
        return sizes

    @property
    def elements(self) -> Dim:
        """The number of elements."""
        return product(self.shape)

    @property
    def nbytes(self) -> Dim:
        """The size in bytes."""
        if self.format is not None:
            return product((*self.shape[:-1], self.format.row_bytes(self.shape[-1])))
        return self.elements * NUMPY[self.dtype].itemsize

    @property
    def storage(self) -> Type:
        """The plain type that holds the same bytes: of a packed one in its default layout, u8[..., row_bytes]."""
        if self.format is None:
            return self
        require(not self.layout, f"{self} is stored in its default layout only")
        return Type("u8", (*self.shape[:-1], self.format.row_bytes(self.shape[-1])))

    def axis(self, axis: int) -> int:
        """`axis` counted from the front. Raises InferError when there is no such axis."""
        require(-self.rank <= axis < self.rank, f"{self} has no axis {axis}")
        return axis % self.rank

    def with_shape(self, shape: Iterable[Dim]) -> Type:
        """The same elements in another shape."""
        return type(self)(self.dtype, tuple(shape), self.layout)

    def with_dtype(self, dtype: str, layout: str = "") -> Type:
        """The same shape with other elements."""
        return Type(dtype, self.shape, layout)

    def bind(self, sizes: Mapping[str, Dim]) -> Type:
        """The type with the named symbols replaced."""
        return self if not sizes else self.with_shape([bind(d, sizes) for d in self.shape])
