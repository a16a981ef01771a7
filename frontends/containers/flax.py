"""Flax: what a layer's parameter is called says how it lies."""

from __future__ import annotations

import re
from collections.abc import Mapping

from burnish.frontends.architecture import Layers
from burnish.frontends.config import LoadError
from burnish.frontends.stored import Container
from burnish.ir.dims import Dim
from burnish.ir.graph import Value
from burnish.ir.types import Type

#: what torch calls `weight`; a kernel has the axes in another order, [..., inputs, outputs]
_WEIGHTS = ("kernel", "scale", "embedding", "weight")


class Flax(Container):
    """`kernel` [inputs, outputs] of a product, `scale` of a norm, `embedding` of a table, under transformers' paths.

    Layers that were scanned are one parameter of all of them, stacked on an axis of their own: the first, unless the
    shape says another. Format: transformers 4, `modeling_flax_pytorch_utils.py`.
    """

    name = "flax"
    of_files = True

    @classmethod
    def holds(cls, types: Mapping[str, Type]) -> bool:
        return any(n.endswith(".kernel") for n in types)

    def parameter(self, op: Layers, name: str, shape: tuple[Dim, ...]) -> Value | None:
        """A parameter by torch's name and of torch's shape."""
        module, _, kind = name.rpartition(".")
        called = _WEIGHTS if kind == "weight" else (kind,)
        for path, layer in _paths(module):
            for leaf in called:
                if (value := op.stored(f"{path}.{leaf}".lstrip("."))) is None:
                    continue
                turned = leaf == "kernel"
                wanted = (*shape[2:], *shape[1::-1]) if turned else shape
                if layer is not None:
                    value = _layer(op, value, layer, wanted, f"{path}.{leaf}")
                axes = len(value.shape)
                return op.transpose(value, perm=(axes - 1, axes - 2, *range(axes - 2))) if turned else value
        return None


def _paths(module: str) -> list[tuple[str, int | None]]:
    """Where a module's parameters may be: under its own path, or with those of the other layers."""
    at = re.search(r"(?:^|\.)(\d+)(?=\.|$)", module)
    own: list[tuple[str, int | None]] = [(module, None)]
    if at is None:
        return own
    return [*own, ((module[: at.start()] + module[at.end() :]).lstrip("."), int(at[1]))]


def _layer(op: Layers, stacked: Value, layer: int, wanted: tuple[Dim, ...], name: str) -> Value:
    sizes = stacked.shape
    axes = [i for i in range(len(sizes)) if sizes[:i] + sizes[i + 1 :] == wanted]
    if len(axes) != 1 or not isinstance(sizes[axes[0]], int) or layer >= int(str(sizes[axes[0]])):
        what = "could be stacked on any of several axes" if len(axes) > 1 else f"holds no layer {layer} of {[*wanted]}"
        raise LoadError(f"{name!r} is {stacked.type}, which {what}")
    one = op.slice(stacked, axis=axes[0], start=layer, stop=layer + 1)
    return op.reshape(one, shape=wanted)
