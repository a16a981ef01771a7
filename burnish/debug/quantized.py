"""What a lossy pass may lose: each quantized tensor is held to the rounding of its own format, and named.

A weight that is packed now is compared with the float weight that the same node read before; what is quantized at run
time, with what went into it. The bound is the format's own law, `QuantFormat.largest_error`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from burnish.ir.format import FORMATS, Packed
from burnish.ir.graph import Node, Value
from burnish.ir.module import Module
from burnish.ir.op import Array
from burnish.ir.ops.quantization import Quantize, Relayout
from burnish.ir.origin import dotted
from burnish.ir.run import static_values

__all__ = ["Held", "Watch", "held_weights"]


@dataclass(frozen=True)
class Held:
    """A quantized tensor, and how far it is from what it stands for; 1 is as far as its format may be."""

    name: str
    format: str
    off: float

    @property
    def fault(self) -> str | None:
        """What is wrong with it."""
        if self.off <= 1:
            return None
        much = (
            "is not of its shape" if np.isinf(self.off) else f"is off by {self.off:.3g} times what {self.format} rounds"
        )
        return f"{self.name} {much}"


def held_weights(before: Module, after: Module) -> tuple[list[Held], dict[Value, Array]]:
    """The weights that became packed, held to what the same nodes read before.

    Also, of those that no `quantize` made, the floats that they stand for: for a run in which nothing is rounded.
    """
    held, stands_for = list[Held](), dict[Value, Array]()
    seen: set[Value] = set()
    for node, old, new in _weights(before, after):
        if new in seen:
            continue
        seen.add(new)
        x, packed = (next(a for _, a in static_values([v])) for v in (old, new))
        x = x.dequantize(np) if isinstance(x, Packed) else np.asarray(x)
        tensors = ", ".join(node.source_tensors)
        held.append(Held(f"weight {tensors or dotted(node.origin.scope)}", new.dtype, _off(packed, x)))
        if not isinstance(new.op, Quantize | Relayout):
            stands_for[new] = x
    for node in (n for g in after.every_graph for n in g):
        if isinstance(node.op, Quantize) and node.time != "run" and node.out not in seen and _is_new(node, before):
            found = dict(static_values([node["x"], node.out]))
            held.append(Held(_name(node), node.out.dtype, _off(found[node.out], found[node["x"]])))
    return held, stands_for


@dataclass
class Watch:
    """A probe that holds what is quantized at run time to what went into it."""

    worst: dict[str, Held] = field(default_factory=dict)

    def node(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Array], seconds: float) -> None:
        """After each node."""
        if isinstance(node.op, Quantize):
            (x,), (packed,) = inputs, outputs
            assert x is not None
            now = Held(_name(node), packed.format, _off(packed, np.asarray(x)))
            if now.name not in self.worst or now.off > self.worst[now.name].off:
                self.worst[now.name] = now

    def finished(self, wall: float, own: float) -> None:
        """Nothing."""


def _name(node: Node) -> str:
    reader = next((u for u in node.out.users if u.op.weight is not None), node)
    return f"what {dotted(reader.origin.scope) or reader.op.name} quantizes"


def _off(packed: Array, x: np.ndarray) -> float:
    """The largest deviation, in units of what the format may be off by."""
    if not isinstance(packed, Packed) or packed.shape != x.shape:
        return float("inf")
    if not x.size:
        return 0.0
    format = FORMATS[packed.format]
    groups = x.astype("f4").reshape(*x.shape[:-1], -1, format.group_size(x.shape[-1]))
    with np.errstate(all="ignore"):
        off = np.abs(packed.dequantize(np).reshape(groups.shape) - groups) / format.largest_error(groups)
    return float(np.nan_to_num(off, nan=np.inf).max())


def _weights(before: Module, after: Module) -> Iterator[tuple[Node, Value, Value]]:
    """(node, what it read before, the packed weight that it reads now), for each that is packed otherwise than before.

    A node is known by its op and the sources that it stands for.
    """
    known: dict[tuple[object, ...], list[Value]] = {}
    for node, w in _read_weights(before):
        known.setdefault(_place(node), []).append(w)
    for node, w in _read_weights(after):
        olds = known.get(_place(node))
        old = olds.pop(0) if olds else None
        if old is not None and w.type.format is not None and (w.dtype != old.dtype):
            yield node, old, w


def _read_weights(module: Module) -> Iterator[tuple[Node, Value]]:
    for graph in module.every_graph:
        for node in graph:
            w = node[node.op.weight] if node.op.weight is not None else None
            if w is not None and w.time != "run":
                yield node, w


def _place(node: Node) -> tuple[object, ...]:
    return node.out.graph.name, node.op.name, node.origin.sources


def _is_new(node: Node, before: Module) -> bool:
    same = [n for g in before.every_graph for n in g if n.op == node.op and n.origin.sources == node.origin.sources]
    return not same
