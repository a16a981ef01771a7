"""MLX: experts are stacked, and convolutions have their channels last; all else is as in torch."""

from __future__ import annotations

import re
from collections.abc import Mapping

from burnish.frontends.architecture import Layers
from burnish.frontends.stored import Container
from burnish.ir.dims import Dim
from burnish.ir.graph import Value
from burnish.ir.types import Type

_STACK = "switch_mlp"
_EXPERT = re.compile(r"(?P<block>.+)\.experts\.(?P<index>\d+)\.(?P<name>\w+)\.(?P<kind>weight|bias)")
_NAMES = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


class Mlx(Container):
    """`switch_mlp.NAME.weight` [experts, outputs, inputs]; `conv1d.weight` [channels, k, 1], torch's being [.., 1, k].

    Format: `sanitize` of the models of mlx-lm.
    """

    name = "mlx"
    of_files = True

    @classmethod
    def holds(cls, types: Mapping[str, Type]) -> bool:
        return any(f".{_STACK}." in n or _moved(n, t.shape) for n, t in types.items())

    def parameter(self, op: Layers, name: str, shape: tuple[Dim, ...]) -> Value | None:
        """An expert's out of its stack, or a convolution's turned."""
        if expert := _EXPERT.fullmatch(name):
            called = _NAMES.get(expert["name"], expert["name"])
            stack, index = op.stored(f"{expert['block']}.{_STACK}.{called}.{expert['kind']}"), int(expert["index"])
            if stack is None or stack.type.rank != len(shape) + 1:
                return None
            return op.reshape(op.slice(stack, axis=0, start=index, stop=index + 1), shape=stack.shape[1:])
        if not name.endswith("conv1d.weight") or (value := op.stored(name)) is None:
            return None
        return op.transpose(value, perm=(0, 2, 1)) if _moved(name, value.shape) else value


def _moved(name: str, shape: tuple[Dim, ...]) -> bool:
    return name.endswith("conv1d.weight") and len(shape) == 3 and shape[2] == 1 != shape[1]
