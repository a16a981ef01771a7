"""Does a backend compute each op as it is defined? Node by node, each on exact inputs, so that a fault has a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from burnish.backends.interpreter import Interpreter
from burnish.backends.target import make_backend
from burnish.debug.check import FACTOR, Checker
from burnish.debug.numbers import Float64, error, units_of
from burnish.ir.dims import Sym
from burnish.ir.format import Packed
from burnish.ir.graph import Node, Value
from burnish.ir.module import Module, WeightEntry
from burnish.ir.op import Array
from burnish.ir.types import Type, dtype_name
from burnish.ir.weights import MemoryWeights
from burnish.passes.engine import Context, Controller
from burnish.runtime.targets import read_pipeline

__all__ = ["OpFault", "wrong_ops"]


@dataclass(frozen=True)
class OpFault:
    """An op that a backend computes wrongly, how it runs there, and the first place where it was seen."""

    op: str
    how: str
    scope: str
    error: float
    limit: float

    def as_json(self) -> dict[str, Any]:
        """For machines; what is not finite becomes a string."""
        return {k: str(v) if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}

    def __str__(self) -> str:
        return f"op {self.op}, run by {self.how}, at {self.scope}: error {self.error:.3g}, at most {self.limit:.3g}"


def wrong_ops(checker: Checker, pipeline: str, skip: Controller | None = None) -> list[OpFault]:
    """The ops of a pipeline's result that the checker's backend computes otherwise than `evaluate` does.

    Each run-time node of a reading is run there alone, on what it is given in a right run; like nodes once.
    """
    passes, own = checker.passes(pipeline), read_pipeline(checker.backend)
    context = Context(checker.module.copy())
    if skip is not None:
        context.controller = skip
    for pass_ in passes[: len(passes) - len(own)]:
        context.run(pass_)
    watch = _Each(checker.backend)
    checker.readings[min(1, len(checker.readings) - 1)](Interpreter(context.module, kernels={}), watch)
    return watch.faults


@dataclass
class _Each:
    """A probe that runs each node, alone, on a backend."""

    backend: str
    faults: list[OpFault] = field(default_factory=list)
    _seen: set[object] = field(default_factory=set)

    def node(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Array], seconds: float) -> None:
        """After each node."""
        key = node.op, tuple(None if x is None else (str(x.dtype), x.shape) for x in inputs)
        if key in self._seen or node.bodies or any(isinstance(x, Packed) for x in outputs):
            return
        self._seen.add(key)
        alone = _alone(node, inputs, outputs)
        if alone is None:
            return
        module, given = alone
        exact = Float64(module)("forward", given)
        backend = make_backend(self.backend, module)
        made = backend("forward", given)
        for i, right in enumerate(outputs):
            truth = exact[f"y{i}"]
            off = error(np.asarray(backend.to_numpy(made[f"y{i}"])), truth)
            limit = FACTOR * error(right, truth) + units_of(np.asarray(right))
            if off > limit:
                how = next((way.how for n, way in backend.ways("forward") if n.op.name == node.op.name), self.backend)
                if not any((f.op, f.how) == (node.op.name, how) for f in self.faults):
                    scope = node.origin.scope or node.out.graph.name
                    self.faults.append(OpFault(node.op.name, how, scope, off, limit))
                return

    def finished(self, wall: float, own: float) -> None:
        """Nothing."""


def _type_of(x: Array) -> Type:
    return Type(x.format, x.shape, x.layout) if isinstance(x, Packed) else Type(dtype_name(x.dtype), tuple(x.shape))


def _alone(
    node: Node, operands: Sequence[Array | None], outputs: Sequence[Array]
) -> tuple[Module, dict[str, Array]] | None:
    """A module of this node at these sizes; what is known before run time, or packed, is a weight of it.

    None where its op counts something that its operands do not show.
    """
    module = Module()
    graph = module.graph("forward")
    values: list[Value | None] = []
    given: dict[str, Array] = {}
    weights: dict[str, Array] = {}
    sizes: dict[str, int] = {}
    for i, (v, x) in enumerate(zip(node.inputs, operands, strict=True)):
        if v is None or x is None:
            values.append(None)
            continue
        sizes.update(
            {d.text: n for d, n in zip(v.type.shape, x.shape, strict=True) if isinstance(d, Sym) and d.is_plain}
        )
        type = _type_of(x)
        if isinstance(x, Packed) or v.time != "run":
            module.weights[f"w{i}"], weights[f"w{i}"] = WeightEntry(type), x
            values.append(graph.ops.weight(f"w{i}"))
        else:
            given[f"x{i}"] = np.array(x)
            values.append(graph.input(f"x{i}", type))
    if node.op.symbols - set(sizes):
        return None
    made = graph.ops.emit_typed(node.op.bind(sizes), values, [_type_of(x) for x in outputs])
    graph.set_outputs({f"y{i}": v for i, v in enumerate(made)})
    module.normalize()
    module.source = MemoryWeights(weights)
    return module, given
