"""Binding symbols to numbers: what every backend does before it runs a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from burnish.ir.dims import Sym, bind
from burnish.ir.graph import Graph
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
    shapes = {v: tuple(inputs[v.name].shape) for v in graph.inputs}
    for v, shape in shapes.items():
        for d, n in zip(v.shape, shape, strict=False):
            if isinstance(d, Sym) and d.is_plain and len(shape) == v.type.rank:
                sizes.setdefault(d.text, n)
    for v, shape in shapes.items():
        if shape != tuple(bind(d, sizes) for d in v.shape):
            at = ", ".join(f"{k}={n}" for k, n in sizes.items())
            raise BindError(f"graph {graph.name}: input {v.name} must be {v.type}, not {list(shape)} (with {at})")
        if v.type.format is None and not v.type.is_float and (dtype := inputs[v.name].dtype).kind not in "iub":
            raise BindError(f"graph {graph.name}: input {v.name} must be {v.type}, not of {dtype}")
    return sizes


def check_guards(module: Module, sizes: Mapping[str, int], all_true: Callable[[Graph], bool]) -> None:
    """Raise BindError where the sizes break a guard. Guards about other symbols are left alone."""
    for guard in module.guards:
        if isinstance(guard, Comparison):
            if broken := guard.broken(sizes):
                raise BindError(broken)
        elif guard.graph.symbols <= set(sizes) and not all_true(guard.graph):
            at = ", ".join(f"{k}={n}" for k, n in sizes.items())
            raise BindError(f"assumed {guard.reason}, which does not hold with {at}")
