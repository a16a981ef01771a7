"""What the checks measure with: inputs that are made up, a run in float64, and the distance between two results."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from burnish.backends.backend import Backend, Way
from burnish.backends.binding import BindError, bind_symbols
from burnish.ir.budget import check_held
from burnish.ir.dims import Sym, bind, symbols_of
from burnish.ir.format import FORMATS, Packed
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.guards import AtMost, Equal
from burnish.ir.module import Module
from burnish.ir.op import Array, Op
from burnish.ir.ops.linear import Embedding
from burnish.ir.ops.quantization import Dequantize, Quantize, Relayout
from burnish.ir.run import Body, Chosen, evaluate_numpy, make_plan, read_leaf
from burnish.ir.signature import COUNT, MASK, PAST, TOKENS, Earlier, Length, Linked, Ring, State
from burnish.ir.types import FLOATS, NUMPY, Type
from burnish.ir.walk import every_graph
from burnish.ir.weights import MemoryWeights

__all__ = [
    "Float64",
    "error",
    "made_up",
    "made_up_inputs",
    "made_up_weights",
    "rows_read_by",
    "run_all",
    "same_bits",
    "units_of",
]

ULPS = 4  # units in the last place by which a rounding rewrite may always be off, relative to the largest result
Run = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]  # graph, inputs -> outputs


# ------------------------------------------------------------------------------------------------------------- inputs


def made_up(type: Type, name: str, seed: int = 0, below: int = 8) -> Array:
    """Data of a type without symbols: floats of about unit size along the last axis, integers from 0 to `below`.

    Depends on the name and the seed alone.
    """
    check_held([type], f"{name}: {type}")
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    scale = max(type.sizes[-1], 1) ** -0.5 if type.rank > 1 else 1.0
    if type.format is not None and not type.format.is_made:
        return Packed.made_up(type.dtype, type.sizes, rng, scale).relayout(np, type.layout)
    if type.format is not None:
        packed = Packed.quantize(np, made_up(type.with_dtype("f32"), name, seed), type.dtype)
        return packed.relayout(np, type.layout)
    if type.dtype == "bool":
        return rng.random(type.sizes) < 0.5
    if type.is_integer:
        return rng.integers(0, below, type.sizes).astype(NUMPY[type.dtype])
    return (rng.standard_normal(type.sizes) * scale).astype(NUMPY[type.dtype])


def made_up_weights(module: Module, seed: int = 0) -> MemoryWeights:
    """Weights for a module that came as text. Raises BudgetError where they do not fit into memory."""
    check_held((e.type for e in module.weights.values()), f"{len(module.weights)} made-up weights")
    return MemoryWeights({name: made_up(entry.type, name, seed) for name, entry in module.weights.items()})


def made_up_inputs(module: Module, seed: int = 0, sizes: Mapping[str, int] | None = None) -> dict[str, Array]:
    """Data for the inputs of every graph, as `graph.input`: ids in the vocabulary, padded batches, random numbers.

    States begin empty, and what a decoder shares with its encoder comes from there: nothing is made up for those.
    `sizes` are those of symbols; the others are small numbers, different ones unless a guard says that they are equal.
    """
    bound = _sizes(module, sizes or {})
    inputs: dict[str, Array] = {}
    for graph in module.graphs.values():
        tokens = graph.input_for(TOKENS)
        for v in graph.inputs:
            key, type = f"{graph.name}.{v.name}", v.type.bind(bound)
            if isinstance(v.role, State | Linked):
                continue
            if v.role == COUNT or isinstance(v.role, Length):
                longest = tokens.type.bind(bound).sizes[1] if tokens is not None else 1
                inputs[key] = np.maximum(longest - np.arange(type.sizes[0]), 1).astype("i4")
            elif v.role == MASK and module.facts.makes_text:
                inputs[key] = np.ones(type.sizes, NUMPY[type.dtype])  # as a session has it
            elif v.role == PAST:
                inputs[key] = np.zeros(type.sizes, "i4")
            elif rows := rows_read_by(v):
                inputs[key] = made_up(type, key, seed, rows)
            else:
                raise BindError(f"input {key} reads a table without rows")
    return inputs


def _sizes(module: Module, given: Mapping[str, int]) -> dict[str, int]:
    sizes = dict(given)
    equal = {frozenset(map(str, (g.a, g.b))) for g in module.guards if isinstance(g, Equal)}
    names = dict.fromkeys(s for g in module.graphs.values() for v in g.inputs for s in v.type.symbols)
    for v in (v for g in module.graphs.values() for v in g.inputs):
        if isinstance(v.role, Earlier):  # none came before
            sizes |= {s: 0 for s in symbols_of(v.shape[v.role.axis]) if s not in sizes}
    for name in names:
        same = next((sizes[other] for other in sizes if frozenset((name, other)) in equal), None)
        sizes.setdefault(name, same or (len(sizes) + 5 if sizes else 2))
    for g in module.guards:  # as small as they may be, or as large
        if isinstance(g, AtMost) and g.broken(sizes):
            for side, size in ((g.b, g.a), (g.a, g.b)):
                if isinstance(side, Sym) and side.text not in given and isinstance(n := bind(size, sizes), int):
                    sizes[side.text] = n
                    break
    return sizes


def rows_read_by(ids: Value, otherwise: int = 8) -> int:
    """How many rows the smallest table has that is read at these ids; `otherwise` where none is."""
    rows = [n["w"].shape[0] for n in ids.users if isinstance(n.op, Embedding)]
    return min((r for r in rows if isinstance(r, int)), default=otherwise)


# ------------------------------------------------------------------------------------------------------------ running


def run_all(module: Module, run: Run, given: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of every graph, as `graph.output`, each graph run once.

    `given` holds inputs of the plain module, as `graph.input`. What passes add is filled in: a state is empty, nothing
    is `past`, every token counts, a capacity is the number of tokens, and a decoder gets what the encoder has.
    """
    results: dict[str, Array] = {}
    for graph in module.graphs.values():
        with np.errstate(all="ignore"):  # an infinite result is for those to judge who compare
            outputs = run(graph.name, _inputs(graph, given, results))
        results.update((f"{graph.name}.{name}", x) for name, x in outputs.items())
    return results


def _inputs(graph: Graph, given: Mapping[str, Array], earlier: Mapping[str, Array]) -> dict[str, Array]:
    inputs: dict[str, Array] = {}
    sizes: dict[str, int] = {}
    for v in graph.inputs:
        key = f"{v.role.graph}.{v.role.name}" if isinstance(v.role, Linked) else f"{graph.name}.{v.name}"
        found = given.get(key, earlier.get(key))
        if found is not None:
            inputs[v.name] = found
            for d, n in zip(v.shape, found.shape, strict=False):
                if isinstance(d, Sym) and d.is_plain:
                    sizes[d.text] = n
    ids = graph.input_for(TOKENS)
    tokens = inputs[ids.name].shape[1] if ids is not None and ids.name in inputs else 1
    for v in graph.inputs:
        if v.name not in inputs:
            most = v.role.most if isinstance(v.role, Ring) else tokens
            free = {s: min(tokens, most) for s in v.type.symbols if s not in sizes}
            type = v.type.bind({**sizes, **free})
            counts = v.role == COUNT or isinstance(v.role, Length)
            inputs[v.name] = np.full(type.sizes, tokens if counts else 0, NUMPY[type.dtype])
    return inputs


@dataclass
class Float64(Backend):
    """Runs a module's graphs with every float widened to float64, quantized numbers taken for what they stand for.

    `known` are values that need not be computed, with their arrays. Where `unrounded`, what is quantized at run time,
    and by any `quantize` above `known`, stays the float that it was: all that a lossy pass does but rounding.
    """

    has_probes: ClassVar[bool] = True
    module: Module
    known: Mapping[Value, Array] = field(default_factory=dict)
    unrounded: bool = False
    _leaves: dict[Value, Array] = field(default_factory=dict)

    def __call__(self, graph: str, inputs: Mapping[str, Array], probe: Any = None) -> dict[str, Array]:
        """Run a graph on arrays by input name. Raises BindError for inputs that do not fit it."""
        g = self.module.graphs[graph]
        sizes = bind_symbols(g, inputs)
        for node in (n for h in every_graph([g]) for n in h if n.is_leaf and n.out not in self._leaves):
            self._leaves[node.out] = _wide(read_leaf(node))
        known = self._leaves | {v: _wide(x) for v, x in self.known.items()}
        known |= {v: _wide(inputs[v.name]) for v in g.inputs}
        return dict(zip(g.outputs, make_plan(g, known, sizes, self._choose)(known, probe), strict=True))

    def _choose(self, node: Node, op: Op, bodies: Sequence[Body]) -> Chosen:
        if node.is_leaf:
            return lambda _: (_wide(read_leaf(node)),), "read"
        dtypes = [o.dtype for o in node.outputs]
        return lambda operands: self._evaluate(op, operands, dtypes, bodies), "float64"

    def _evaluate(
        self, op: Op, operands: Sequence[Any], dtypes: Sequence[str], bodies: Sequence[Body]
    ) -> tuple[Array, ...]:
        stays = self.unrounded and isinstance(op, Quantize | Relayout | Dequantize)
        if stays and not any(isinstance(x, Packed) for x in operands):
            return tuple(operands)
        if not op.planewise and not op.takes_packed:
            operands = [_wide(x.dequantize(np)) if isinstance(x, Packed) else x for x in operands]
        dtypes = ["f64" if d in FLOATS or (self.unrounded and d in FORMATS) else d for d in dtypes]
        return tuple(map(_wide, evaluate_numpy(_wide_op(op), operands, dtypes, bodies)))

    def zeros(self, type: Type) -> Array:
        """An empty state."""
        return np.zeros(type.sizes, "f8" if type.is_float else NUMPY[type.dtype])

    def to_numpy(self, array: Array) -> np.ndarray:
        """It is one already."""
        return np.asarray(array)

    def length(self, wanted: int) -> int:
        """Just what is wanted."""
        return wanted

    def ways(self, graph: str) -> Iterable[tuple[Node, Way]]:
        """All as it is defined."""
        return [(n, Way("float64")) for g in every_graph([self.module.graphs[graph]]) for n in g if n.time == "run"]


def _wide(x: Any) -> Any:
    return x if isinstance(x, Packed) or x.dtype.kind in "iub" else np.asarray(x).astype("f8")


def _wide_op(op: Op) -> Op:
    return op.changed(to="f64") if getattr(op, "to", None) in FLOATS else op


# ---------------------------------------------------------------------------------------------------------- distances


def error(result: Array, reference: Array) -> float:
    """The largest deviation of a result, relative to the largest finite number of the reference.

    Infinite for another shape, for other integers, and where one is not a number and the other is.
    """
    if result.shape != reference.shape:
        return float("inf")
    a, b = np.asarray(result).astype("f8"), np.asarray(reference).astype("f8")
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return float("inf")
    if np.asarray(result).dtype.kind in "iub":
        return 0.0 if np.array_equal(a, b) else float("inf")
    size = np.abs(b[finite]).max(initial=0.0)
    off = np.abs(a[finite] - b[finite]).max(initial=0.0)
    return float(off / size) if size else float(off)


def units_of(x: Array) -> float:
    """A few units in the last place of the array's element type, for numbers around 1; 0 for integers."""
    return ULPS * float(np.spacing(np.ones((), x.dtype))) if x.dtype.kind not in "iub" else 0.0


def same_bits(a: Array, b: Array) -> bool:
    """Whether two results are equal to the last bit."""
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
