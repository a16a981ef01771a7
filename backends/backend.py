"""What a backend is, and how one is found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from burnish.ir.module import Module
from burnish.ir.op import Array
from burnish.ir.types import Type

__all__ = ["BACKENDS", "Backend", "make_backend"]


class Backend(Protocol):
    """Runs every graph of one module.

    The array of a state is the backend's own kind, comes from `zeros`, and may be written in place, so that only the
    returned one is valid afterwards.
    """

    name: ClassVar[str]
    module: Module

    def __init__(self, module: Module) -> None: ...

    def __call__(self, graph: str, inputs: Mapping[str, Array], probe: Any = None) -> dict[str, Array]:
        """Run a graph on arrays by input name. Raises BindError for inputs that do not fit it or its guards."""

    def zeros(self, type: Type) -> Array:
        """An empty state; the type has no symbols."""

    def to_numpy(self, array: Array) -> np.ndarray:
        """A result as a NumPy array."""

    def length(self, wanted: int) -> int:
        """The number of tokens or cache rows to use for `wanted`: a backend that compiles for each size rounds up."""

    def plan_text(self, graph: str) -> str:
        """What runs how: one line for each way, with the reason where something has no kernel."""

    def fallbacks(self, graph: str) -> list[str]:
        """The products with quantized weights that are dequantized as a whole first: which, and why."""


BACKENDS = ("numpy", "xla")


def make_backend(name: str, module: Module) -> Backend:
    """The backend called `name`, for `module`. Raises ValueError for a name that is none."""
    match name:
        case "numpy":
            from burnish.backends.interpreter import Interpreter

            return Interpreter(module)
        case "xla":
            from burnish.backends.xla import Xla

            return Xla(module)
    raise ValueError(f"there is no backend {name!r}; there are {', '.join(BACKENDS)}")
