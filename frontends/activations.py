"""Activation functions by the names that configs give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from burnish.ir.builder import Ops
from burnish.ir.graph import Value

__all__ = ["ACTIVATIONS"]

ACTIVATIONS: Mapping[str, Callable[[Ops, Value], Value]] = {
    "gelu": lambda op, x: op.gelu(x),
    "gelu_fast": lambda op, x: op.gelu(x, approximate="tanh"),
    "gelu_new": lambda op, x: op.gelu(x, approximate="tanh"),
    "gelu_python": lambda op, x: op.gelu(x),
    "gelu_pytorch_tanh": lambda op, x: op.gelu(x, approximate="tanh"),
    "relu": lambda op, x: op.relu(x),
    "relu2": lambda op, x: op.relu(x) * op.relu(x),
    "silu": lambda op, x: op.silu(x),
    "swish": lambda op, x: op.silu(x),
    "tanh": lambda op, x: op.tanh(x),
}
