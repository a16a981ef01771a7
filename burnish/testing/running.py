"""Running one op or one graph on NumPy and on JAX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from burnish.ir import run as runs
from burnish.ir.dims import Dim
from burnish.ir.evaluate import evaluate
from burnish.ir.format import Packed
from burnish.ir.graph import Graph
from burnish.ir.leaves import Weight
from burnish.ir.op import Array, Arrays, Op
from burnish.ir.types import Type, dtype_name

__all__ = ["all_equal", "bytes_of", "is_float", "run_all_jax", "run_graph", "run_jax", "run_numpy", "type_of"]


def type_of(x: Array) -> Type:
    """The type of an array."""
    if isinstance(x, Packed):
        return Type(x.format, x.shape, x.layout)
    return Type(dtype_name(x.dtype), tuple(x.shape))


def run_graph(
    graph: Graph,
    xp: Arrays,
    inputs: Sequence[Array],
    weights: Mapping[str, Array] | None = None,
    sizes: Mapping[str, Dim] | None = None,
) -> tuple[Array, ...]:
    """The outputs of a graph, node by node, in numpy or jax.numpy; `weights` are arrays by name."""

    def run(op: Op, operands: Sequence[Any], dtypes: Sequence[str], bodies: Sequence[Any]) -> tuple[Array, ...]:
        return evaluate(op, xp, operands, dtypes, bodies)

    leaves = {n.out: (weights or {})[n.op.tensor] for n in graph if isinstance(n.op, Weight)}
    return runs.run_graph(graph, leaves | dict(zip(graph.inputs, inputs, strict=True)), sizes, run)


def run_numpy(op: Op, inputs: Sequence[Array | None], bodies: Sequence[Graph] = ()) -> tuple[Array, ...]:
    """One op on NumPy arrays, with the types that it infers for them."""
    with np.errstate(all="ignore"):  # 1 / 0 is infinite, as in JAX
        return _run(op, np, inputs, bodies)


def run_jax(op: Op, inputs: Sequence[Array | None], bodies: Sequence[Graph] = ()) -> tuple[Array, ...]:
    """The same traced and compiled by JAX, with 64-bit types; results are NumPy arrays."""
    return run_all_jax([(op, inputs, bodies)])[0]


def run_all_jax(calls: list[tuple[Op, Sequence[Array | None], Sequence[Graph]]]) -> list[tuple[Array, ...]]:
    """Several at once, for compiling is what takes time."""
    import jax

    made: list[tuple[Array, ...]] = []

    def traced(arrays: list[list[Any]]) -> list[list[Any]]:
        made.clear()
        for (op, inputs, bodies), planes in zip(calls, arrays, strict=True):
            given = [
                x.with_planes(a, x.shape) if isinstance(x, Packed) else a for x, a in zip(inputs, planes, strict=True)
            ]
            made.append(_run(op, jax.numpy, given, bodies))
        return [[r.planes if isinstance(r, Packed) else r for r in results] for results in made]

    with jax.enable_x64(True):
        arrays = jax.jit(traced)([[x.planes if isinstance(x, Packed) else x for x in call[1]] for call in calls])
    return [
        tuple(m.with_planes(r, m.shape) if isinstance(m, Packed) else r for m, r in zip(call, results, strict=True))
        for call, results in zip(made, jax.tree.map(np.asarray, arrays), strict=True)
    ]


def _run(op: Op, xp: Arrays, inputs: Sequence[Array | None], bodies: Sequence[Graph]) -> tuple[Array, ...]:
    keywords = {"bodies": tuple(bodies)} if op.bodies else {}
    types = op.results(*(None if x is None else type_of(x) for x in inputs), **keywords)
    return evaluate(op, xp, inputs, [t.dtype for t in types], [partial(_run_body, b, xp) for b in bodies])


def _run_body(body: Graph, xp: Arrays, *inputs: Array) -> tuple[Array, ...]:
    return run_graph(body, xp, inputs)


def is_float(x: Any) -> bool:
    """Whether it is an array of floats."""
    return isinstance(x, np.ndarray) and x.dtype.kind not in "iub"


def bytes_of(x: Any) -> Any:
    """The bytes of an array; of a packed one, those of each plane."""
    if isinstance(x, Packed):
        return {k: bytes_of(p) for k, p in x.planes.items()}
    return None if x is None else np.asarray(x).tobytes()


def all_equal(a: Sequence[Array], b: Sequence[Array]) -> bool:
    """Whether arrays are equal to the last bit."""
    return all(bytes_of(x) == bytes_of(y) for x, y in zip(a, b, strict=True))
