"""A plugin: an op, a rule, a packed format and an architecture in one file outside of the library.

burnish run MODEL --plugin examples/plugin.py --prompt-ids 1,2,3
burnish compile MODEL -o OUT --plugin examples/plugin.py --quantize ternary
"""

from __future__ import annotations

import numpy as np

from burnish.frontends.architecture import Architecture, Layers
from burnish.ir.builder import Ops
from burnish.ir.format import Parts, QuantFormat
from burnish.ir.graph import Value
from burnish.ir.op import Array, Arrays, Axes, Op
from burnish.ir.parts import Part
from burnish.ir.types import Type, require
from burnish.passes.engine import Pattern, RewritePass, Rule


class ScaleApart(Op):
    """x / s and s, with s = max|x| + eps along `axis`: two results."""

    axis: int = -1
    eps: float = 1e-6

    def infer(self, x: Type) -> tuple[Type, Type]:
        require(x.is_float, f"scale_apart: {x} is not a float")
        axis = x.axis(self.axis)
        return x, x.with_shape(1 if i == axis else d for i, d in enumerate(x.shape))

    def along(self, x: Type) -> tuple[Axes, ...]:
        return (tuple(None if i == x.axis(self.axis) else i for i in range(x.rank)),)

    def eval(self, xp: Arrays, x: Array) -> tuple[Array, Array]:
        s = xp.max(xp.abs(x), axis=self.axis, keepdims=True) + x.dtype.type(self.eps)
        return x / s, s


class ScaleBack(Rule):
    """y, s = scale_apart(x); mul(y, s) -> x"""

    exactness = "rounding"
    example = {"x": "f32[2, 4]", "axis": -1, "eps": 1e-6}

    def match(self, op: Ops, x: Value, *, axis: int, eps: float) -> Pattern:
        parts = op.scale_apart(x, axis=axis, eps=eps)
        return op.mul(parts[0], parts[1])

    def build(self, op: Ops, x: Value) -> Value:
        return x


class DropScales(RewritePass):
    """Scales that are taken apart and put back."""

    rules = (ScaleBack,)


class Ternary(QuantFormat):
    """w = scale * (code - 1), code in 0, 1, 2: two bits each in groups of 16, an f16 scale."""

    group = 16
    parts = (Part("scale", "f2"), Part("code", per="input", bits=2))
    zero = 1

    def quantize(self, x: np.ndarray) -> Parts:
        """The scale is the largest magnitude; codes round x / scale."""
        scale = np.abs(x).max(axis=-1, keepdims=True)
        code = np.rint(np.divide(x, scale, out=np.zeros_like(x), where=scale != 0)) + 1
        return {"scale": scale.astype("f2"), "code": code.astype("u1")}


class Echo(Architecture):
    """A causal model of one kind of block: scales apart, attention without projections, a linear."""

    names = ("Echo",)

    def forward(self, op: Layers, ids: Value) -> Value:
        c = self.config
        heads, width = c.integer("num_attention_heads"), c.integer("hidden_size")
        x = op.embedding("embed", ids, c.integer("vocab_size"), width)
        for i in range(c.integer("num_hidden_layers")):
            with op.block("blocks", i):
                y, s = op.scale_apart(x)
                h = op.reshape(y, shape=(*ids.shape, heads, width // heads))
                h = op.attention(h, h, h, causal=True, scale=(width // heads) ** -0.5)
                h = op.linear("out", op.reshape(h, shape=x.shape), width)
                x = h + y * s
        return x
