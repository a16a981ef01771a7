"""Tensor-parallel parts, as Meta's `consolidated.NN.pth` are: each file has a piece of each tensor."""

from __future__ import annotations

from collections.abc import Mapping

from burnish.frontends.architecture import Layers
from burnish.frontends.config import LoadError
from burnish.frontends.stored import Container
from burnish.ir.dims import Dim
from burnish.ir.graph import Value
from burnish.ir.types import Type


class TensorParallel(Container):
    """The weight of a module is in `module.00`, `module.01`, …, along the axis that is cut, or whole in each."""

    name = "tensor-parallel"
    of_files = True

    @classmethod
    def holds(cls, types: Mapping[str, Type]) -> bool:
        return bool(types) and all(n.rpartition(".")[2].isdigit() for n in types)

    def parameter(self, op: Layers, name: str, shape: tuple[Dim, ...]) -> Value | None:
        """Pieces put together: which axis is cut, their shape says."""
        module = name.removesuffix(".weight")
        pieces: list[Value] = []
        while (piece := op.stored(f"{module}.{len(pieces):02}")) is not None:
            pieces.append(piece)
        if not pieces:
            return None
        sizes = pieces[0].shape
        if any(p.type != pieces[0].type for p in pieces):
            raise LoadError(f"{module}: its pieces are {', '.join(str(p.type) for p in pieces)}")
        if sizes == shape:
            return pieces[0]
        axes = [i for i, d in enumerate(sizes) if (*sizes[:i], d * len(pieces), *sizes[i + 1 :]) == shape]
        if len(axes) != 1:
            raise LoadError(f"{module}: {len(pieces)} pieces of {pieces[0].type} are not {[*shape]} along any axis")
        return op.concat(*pieces, axis=axes[0])
