"""Binding symbols to numbers: what every backend does before it runs a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from burnish.ir.dims import Dim, bind
from burnish.ir.graph import Graph, Value
from burnish.ir.guards import Comparison
from burnish.ir.module import Module

__all__ = ["BindError", "bind_symbols", "check_guards"]


class BindError(ValueError):
    """Inputs that do not fit a graph, or that break what was assumed of its symbols."""


def bind_symbols(graph: Graph, inputs: Mapping[str, Any]) -> dict[str, int]:
    """The size of each symbol, read off the inputs' shapes. Raises BindError."""
    names = {v.name for v in graph.inputs}
    if names != set(inputs):
        missing, extra = sorted(names - set(inputs)), sorted(set(inputs) - names)
        raise BindError(f"graph {graph.name} takes {sorted(names)}: missing {missing}, too many {extra}")
    sizes: dict[str, int] = {}
    compound: list[tuple[Value, Dim, int]] = []  # whose symbols may be of a later input
    for v in graph.inputs:
        given = inputs[v.name]
        if len(given.shape) != len(v.type.shape):
            raise _misfit(v, given, sizes)
        for d, n in zip(v.type.shape, given.shape, strict=True):
            if isinstance(d, int):
                fits = d == n
            elif d.is_plain:
                fits = sizes.setdefault(d.text, n) == n
            else:
                compound.append((v, d, n))
                continue
            if not fits:
                raise _misfit(v, given, sizes)
        if v.type.format is None and not v.type.is_float and given.dtype.kind not in "iub":
            raise BindError(f"graph {graph.name}: input {v.name} must be {v.type}, not of {given.dtype}")
    for v, d, n in compound:
        if bind(d, sizes) != n:
            raise _misfit(v, inputs[v.name], sizes)
    return sizes


def _misfit(v: Value, given: Any, sizes: Mapping[str, int]) -> BindError:
    at = ", ".join(f"{k}={n}" for k, n in sizes.items())
    return BindError(f"graph {v.graph.name}: input {v.name} must be {v.type}, not {list(given.shape)} (with {at})")


def check_guards(module: Module, sizes: Mapping[str, int], all_true: Callable[[Graph], bool]) -> None:
    """Raise BindError where the sizes break a guard. Guards about other symbols are left alone."""
    for guard in module.guards:
        if isinstance(guard, Comparison):
            if broken := guard.broken(sizes):
                raise BindError(broken)
        elif guard.graph.symbols <= set(sizes) and not all_true(guard.graph):
            at = ", ".join(f"{k}={n}" for k, n in sizes.items())
            raise BindError(f"assumed {guard.reason}, which does not hold with {at}")
