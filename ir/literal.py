"""The text of attributes and constants: what `repr` cannot promise (True == 1, -0.0 == 0.0, a bf16's digits)."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np

from burnish.ir.dims import Sym, dim_text
from burnish.ir.types import NUMPY, dtype_name

__all__ = ["Literal", "NoDataError", "attribute_text", "number_text", "quote"]

INLINE_ELEMENTS = 8  # constants of at most so many elements are written where they are used


class NoDataError(LookupError):
    """A constant of which only the name is known: its text was read without its data."""


class Literal:
    """A constant's value. Known by its type and the sha256 of its bytes; a large one may come without its data."""

    __slots__ = ("_data", "dtype", "sha", "shape")

    def __init__(self, data: np.ndarray) -> None:
        data = np.asarray(data, order="C").view()  # ascontiguousarray would give a scalar an axis
        data.flags.writeable = False
        self._data: np.ndarray | None = data
        self.dtype, self.shape = dtype_name(data.dtype), data.shape
        self.sha = hashlib.sha256(f"{self.dtype}{self.shape}".encode() + data.tobytes()).hexdigest()[:32]

    @classmethod
    def named(cls, dtype: str, shape: tuple[int, ...], sha: str) -> Literal:
        """A large constant of which only the name is known: `Module.attach` brings the data."""
        literal = object.__new__(cls)
        literal._data, literal.dtype, literal.shape, literal.sha = None, dtype, shape, sha
        return literal

    @property
    def data(self) -> np.ndarray:
        """The array, read-only. Raises NoDataError where the text was read without its constants."""
        if self._data is None:
            raise NoDataError(f"constant {self.sha} has no data: give `constants` when the text is parsed")
        return self._data

    @property
    def has_data(self) -> bool:
        """Whether the value itself is here."""
        return self._data is not None

    @property
    def inline(self) -> str | None:
        """The text in the place of use, `f32([1.0, 2.0])`, or None for a constant that is written as a statement."""
        if self._data is None or self._data.size > INLINE_ELEMENTS or self._data.size == 0:
            return None
        text = f"{self.dtype}({_nested(self._data.tolist(), self._data)})"
        if self._data.dtype.kind not in "iub":  # a NaN's bits have no text; nothing else is lost
            return None if np.isnan(self._data.astype("f8")).any() else text
        return text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self.sha == other.sha

    def __hash__(self) -> int:
        return hash(self.sha)

    def __repr__(self) -> str:
        return self.inline or f'"{self.sha}"'


def number_text(x: float | np.generic, dtype: str = "f64") -> str:
    """The shortest text that reads back as the same number of `dtype`."""
    if isinstance(x, bool | np.bool_):
        return "true" if x else "false"
    if isinstance(x, int | np.integer):
        return str(int(x))
    if math.isnan(float(x)) or math.isinf(float(x)):
        return str(float(x))
    text = str(NUMPY[dtype].type(x)) if dtype in ("f16", "f32") else repr(float(x))
    return text if any(c in text for c in ".en") else text + ".0"


def _nested(items: Any, data: np.ndarray) -> str:
    if isinstance(items, list):
        return "[" + ", ".join(_nested(i, data) for i in items) + "]"
    return number_text(items, dtype_name(data.dtype))


def quote(text: str) -> str:
    """A string in double quotes, JSON's way."""
    return json.dumps(text, ensure_ascii=False)


def attribute_text(value: Any) -> str:
    """The text of an attribute: a number, string, truth value, none, dimension, constant, or a list of such."""
    match value:
        case None:
            return "none"
        case str():
            return quote(value)
        case tuple() | list():
            return "[" + ", ".join(map(attribute_text, value)) + "]"
        case Sym():
            return dim_text(value)
        case Literal():
            return repr(value)
        case bool() | int() | float():
            return number_text(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be an attribute")
