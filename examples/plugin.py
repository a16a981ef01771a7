"""A plugin: one of everything that can be added, in one file outside of the library.

    ScaleApart    an op              Trits         a container of parameters
    ScaleBack     a rule             Npz           a source of models
    DropScales    a pass             LinearSigns   a kernel for NumPy, and one for XLA
    Ternary       a packed format    InSigns       a target
    Signs         a layout of it     Echo, Flag    an architecture, a head

MODEL is a folder as transformers saves it, of EchoForCausalLM or EchoForFlagging, or the same in an .npz file:

    burnish run MODEL --plugin examples/plugin.py --prompt-ids 1,2,3 --backend in-signs
    burnish compile MODEL -o OUT --plugin examples/plugin.py --quantize ternary
    burnish opt MODEL --plugin examples/plugin.py --pipeline drop-scales --remarks
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from burnish.backends.backend import Backend
from burnish.backends.kernels import Kernel
from burnish.backends.static import Static
from burnish.backends.target import Target
from burnish.backends.xla_kernels import XlaKernel
from burnish.frontends.checkpoint import module_of
from burnish.frontends.config import parse_object
from burnish.frontends.family import Architecture, Config, Layers, LoadError, Value
from burnish.frontends.heads import Head, Outputs
from burnish.frontends.source import Source
from burnish.frontends.stored import Container
from burnish.ir import Module
from burnish.ir.builder import Ops
from burnish.ir.dims import Dim
from burnish.ir.format import Layout, Packed, Parts, QuantFormat
from burnish.ir.op import Array, Arrays, Axes, Op
from burnish.ir.parts import Part
from burnish.ir.signature import LOGITS
from burnish.ir.types import NUMPY, Type, dtype_name, require
from burnish.ir.weights import MemoryWeights
from burnish.passes.engine import Pattern, RewritePass, Rule

# ----------------------------------------------------------------------------------------------------- an op, its rule


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


# ------------------------------------------------------------------------------------ a format, and where its bits lie


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


class Signs(Layout):
    """A byte for each code, less one: `sign` i8[…, rows, inputs], beside `scale` f16[…, rows, groups]."""

    name = "signs"

    def accepts(self, format: QuantFormat, shape: tuple[Dim, ...]) -> str | None:
        return None if isinstance(format, Ternary) else f"{format.name} has other codes than -1, 0 and 1"

    def pack(self, xp: Any, format: QuantFormat, parts: Parts, shape: tuple[int, ...]) -> Parts:
        return {"scale": parts["scale"], "sign": parts["code"].astype("int8") - 1}

    def unpack(self, xp: Any, format: QuantFormat, planes: Parts, shape: tuple[int, ...]) -> Parts:
        return {"scale": planes["scale"], "code": (planes["sign"] + 1).astype("uint8")}


class Trits(Container):
    """`trits` i32[N, K / 16], the codes of 16 inputs from bit 0 up, and `scale` f16[N, K / 16]: ternary[N, K]."""

    name = "trits"  # "quantization_config": {"quant_method": "trits"}

    def parameter(self, op: Layers, name: str, shape: tuple[Dim, ...]) -> Value | None:
        module, _, kind = name.rpartition(".")
        trits, scale = op.stored(f"{module}.trits"), op.stored(f"{module}.scale")
        if kind != "weight" or trits is None or scale is None:
            return None
        return op.pack_parts(scale, op.unpack_bits(trits, bits=2, axis=1), format="ternary")


# ----------------------------------------------------------------------------------- kernels that read it, and a target


def signed_sums(xp: Any, x: Array, w: Packed, b: Array | None) -> Array:
    """x[…, K] @ w.T + b in f32: inputs are added up by sign, and the sum of a group is scaled once."""
    planes = w.relayout(xp, "signs").planes
    x, sign = (a.astype("float32").reshape(*a.shape[:-1], -1, Ternary.group) for a in (x, planes["sign"]))
    y = xp.sum(xp.einsum("...gk,ngk->...ng", x, sign) * planes["scale"].astype("float32"), axis=-1)
    return y if b is None else y + b.astype("float32")


class LinearSigns(Kernel):
    """linear(x: f32[…, K], w: ternary.signs[N, K], b?) -> […, N]"""

    name = "linear.signs"
    op = "linear"

    def why_not(self, op: Op, x: Type, w: Type, b: Type | None = None) -> str | None:
        good = x.is_float and (w.dtype, w.layout) == ("ternary", "signs")
        return None if good else f"{x} and {w} are not floats and signs"

    def __call__(self, op: Op, dtypes: Sequence[str], x: Array, w: Packed, b: Array | None = None) -> tuple[Array, ...]:
        return (signed_sums(np, x, w, b).astype(NUMPY[dtypes[0]]),)


class LinearSignsXla(XlaKernel):
    """The same, of weights in whatever layout."""

    name = "linear.signs"
    op = "linear"

    def why_not(self, op: Op, x: Type, w: Type, b: Type | None = None) -> str | None:
        return None if x.is_float and w.dtype == "ternary" else f"{x} and {w} are not floats and ternary"

    def __call__(self, op: Op, dtypes: Sequence[str], x: Array, w: Packed, b: Array | None = None) -> tuple[Array, ...]:
        return (signed_sums(jnp, x, w, b).astype(NUMPY[dtypes[0]]),)


class InSigns(Target):
    """The interpreter, with weights laid out as its kernel above reads them."""

    name = "in-signs"
    passes = (("set-layouts{layout=signs}", "linear.signs reads no other"),)

    def backend(self, module: Module, static: Static) -> Backend:
        from burnish.backends.interpreter import Interpreter

        return Interpreter(module, static)


# ------------------------------------------------------------------------------------- models: from where, and of what


class Npz(Source):
    """numpy.savez(path, config=json.dumps({…}), **{"lm_head.weight": …}): a config.json and tensors, in one file."""

    name = "npz"
    form = "an .npz file of tensors and a config"

    def matches(self, path: Path) -> bool:
        return path.suffix == ".npz"

    def load(self, path: Path) -> Module:
        try:
            with path.open("rb") as file:
                arrays = dict(np.load(file))
            config = str(arrays.pop("config")).encode()
            types = {name: Type(dtype_name(array.dtype), array.shape) for name, array in arrays.items()}
        except Exception as e:  # which of them NumPy raises depends on the bytes
            raise LoadError(f"{path}: is not {self.form}: {e}") from None
        where = str(path)
        return module_of(Config(parse_object(config, where), where), types, MemoryWeights(arrays))


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


class Flag(Head):
    """Whether each token is to be flagged: scores [B, S, 2], from any base model's hidden states."""

    names = ("ForFlagging",)
    task = "token-classification"

    def facts(self, model: Architecture) -> Mapping[str, Any]:
        return {"labels": ("fine", "flagged")}

    def outputs(self, op: Layers, model: Architecture, x: Value) -> Outputs:
        return {LOGITS.name: op.linear("flag", x, 2)}, {LOGITS.name: LOGITS}
