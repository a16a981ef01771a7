"""What a backend is, and what it says of how it runs a graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from burnish.backends.kernels.kernel import Kernel, find_kernel
from burnish.ir.graph import Node
from burnish.ir.module import Module
from burnish.ir.op import Array
from burnish.ir.types import Type

__all__ = ["Backend", "Way", "find_way"]


@dataclass(frozen=True)
class Way:
    """How a node runs: by a kernel, or without one as `evaluate` says."""

    how: str  # in words
    kernel: Kernel | None = None
    dequantizes: bool = False  # a product whose quantized operands are dequantized as a whole first
    why_not: str = ""  # why no kernel runs it


def find_way(node: Node, types: Sequence[Type | None], table: Mapping[str, Kernel], otherwise: str) -> Way:
    """By the last kernel of the table that can; `otherwise` says what runs the node without one."""
    kernel, why_not = find_kernel(node.op, types, table)
    if kernel is not None:
        return Way(kernel.how(node.op, *types), kernel)
    if node.op.kind in ("linear", "matmul") and any(v.type.format for v in node.operands):
        return Way(f"{otherwise}, dequantized ({why_not})", dequantizes=True, why_not=why_not)
    return Way(otherwise, why_not=why_not)


class Backend(ABC):
    """Runs every graph of one module.

    The array of a state is the backend's own kind, comes from `zeros`, and may be written in place, so that only the
    returned one is valid afterwards.
    """

    module: Module
    #: whether a probe can watch a run node by node
    has_probes: ClassVar[bool] = False

    @property
    def same_bits(self) -> bool:
        """Whether the numbers of a token have the same bits, however many go in at once, and whatever beside it."""
        return False

    @abstractmethod
    def __call__(self, graph: str, inputs: Mapping[str, Array], probe: Any = None) -> dict[str, Array]:
        """Run a graph on arrays by input name. Raises BindError for inputs that do not fit it or its guards."""

    @abstractmethod
    def zeros(self, type: Type) -> Array:
        """An empty state; the type has no symbols."""

    @abstractmethod
    def to_numpy(self, array: Array) -> np.ndarray:
        """A result as a NumPy array."""

    @abstractmethod
    def length(self, wanted: int) -> int:
        """The number of tokens or cache rows to use for `wanted`: a backend that compiles for each size rounds up."""

    @abstractmethod
    def ways(self, graph: str) -> Iterable[tuple[Node, Way]]:
        """How each node of a graph's run time runs, those of bodies too: just what the run itself goes by."""

    def plan_text(self, graph: str) -> str:
        """How many nodes of each op run how; those in a loop are counted once."""
        lines = Counter(f"{node.op.name}: {way.how}" for node, way in self.ways(graph))
        return "\n".join(f"{count} x {line}" for line, count in lines.items())

    def fallbacks(self, graph: str) -> list[str]:
        """The products with quantized operands that are dequantized as a whole first: which, and why."""
        found = [(node, way) for node, way in self.ways(graph) if way.dequantizes]
        return [f"{n.op.name}({', '.join(str(v.type) for v in n.operands)}): {way.how}" for n, way in found]
