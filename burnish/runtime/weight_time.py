"""Partial evaluation: the values of weight time, tile by tile, from parts of the weights.

A tile asks its operands for just what it needs (`Op.part`), down to byte ranges of the files, so that memory holds a
few tiles and never a tensor. An op that does not know its parts is computed whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from burnish.ir.box import Box, boxes_of, cut, whole
from burnish.ir.graph import Node, Value
from burnish.ir.leaves import Constant, Weight
from burnish.ir.op import Array
from burnish.ir.run import evaluate_known
from burnish.ir.weights import WeightSource

__all__ = ["TILE", "tiles"]

TILE = 1 << 22  # elements: a transposed tile reads pieces of rows, which must not become too short


def tiles(value: Value, source: WeightSource, elements: int = TILE) -> Iterator[Array]:
    """A weight-time value in tiles of about so many elements, in the order of memory: arrays, or Packed.

    Each byte of a weight is read once for each path on which the value depends on it. Raises OSError, and QuantizeError
    for a weight that its format cannot hold.
    """
    parts = _Parts(source)
    for box in boxes_of(value.type.sizes, elements):
        parts.tile.clear()
        with np.errstate(all="ignore"):  # what overflows becomes infinite, as it would at run time
            made = parts.of(value, box)
        yield made


@dataclass
class _Parts:
    source: WeightSource
    kept: dict[Value, Array] = field(default_factory=dict)  # what one tile needs whole, the next needs again
    #: the boxes that one tile needs of values that are read more than once: the ways to them could be many
    tile: dict[tuple[Value, tuple[tuple[int, int], ...]], Array] = field(default_factory=dict)

    def of(self, value: Value, box: Box) -> Array:
        if box != whole(value.type.sizes):
            if len(value.uses) == 1 or value.node is None or value.node.is_leaf:
                return self.compute(value, box)
            key = value, tuple((s.start, s.stop) for s in box)
            if key not in self.tile:
                self.tile[key] = self.compute(value, box)
            return self.tile[key]
        if value not in self.kept:
            self.kept[value] = self.compute(value, box)
        return self.kept[value]

    def compute(self, value: Value, box: Box) -> Array:
        node = value.node
        assert node is not None and node.time == "weight"
        if isinstance(node.op, Weight):
            return self.source.read_part(node.op.tensor, box)
        if isinstance(node.op, Constant):
            return cut(node.op.value.data, box)
        part = node.op.part(box, [None if v is None else v.type for v in node.inputs], value.index)
        if part is not None:
            operands = []
            for v, b in zip(node.inputs, part.boxes, strict=True):
                if v is None or b is not None:
                    operands.append(None if v is None or b is None else self.of(v, b))
            (made,) = evaluate_known(node, part.op, operands, [value.dtype], self.read)
            return made if part.cut is None else cut(made, part.cut)
        every = whole(value.type.sizes)
        if box != every:
            return cut(self.of(value, every), box)
        operands = [None if v is None else self.of(v, whole(v.type.sizes)) for v in node.inputs]
        return evaluate_known(node, node.op, operands, [o.dtype for o in node.outputs], self.read)[value.index]

    def read(self, leaf: Node) -> Array:
        """The whole of a weight."""
        assert isinstance(leaf.op, Weight)
        return self.source.read(leaf.op.tensor)
