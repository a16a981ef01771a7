"""quantize-activations: what goes into a quantized product in 8 bits too."""

from __future__ import annotations

from functools import cached_property

from burnish.ir.builder import Ops
from burnish.ir.format import FORMATS, FormatError
from burnish.ir.graph import Value
from burnish.passes.engine import Pattern, RewritePass, Rule


class QuantizeActivation(Rule):
    """linear(x, w quantized) -> linear(quantize(x, int8_32), w)"""

    exactness = "lossy"
    example = {"x": "f32[2, 64]", "w": "@q4_0[8, 64]", "b": "@f32[8]", "to": "f32"}

    def match(self, op: Ops, x: Value, w: Value, b: Value | None = None, *, to: str) -> Pattern:
        return op.linear(x, w, b, to=to)

    @cached_property
    def wanted(self) -> list[str]:
        """The formats that the pass was asked for."""
        return _names(getattr(self.options, "formats", ""))

    def where(self, x: Value, w: Value) -> str | None:
        if self.wanted and w.dtype not in self.wanted:
            return ""  # not asked for
        if w.type.format is None:
            return f"{w.type} is not quantized"
        if x.type.format is not None:
            return ""  # done
        try:
            FORMATS["int8_32"].check(x.shape[-1])
        except FormatError as e:
            return str(e)
        return None

    def build(self, op: Ops, x: Value, w: Value, b: Value | None, out: Value) -> Value:
        return op.linear(op.quantize(x, format="int8_32"), w, b, to=out.dtype)


class QuantizeActivations(RewritePass):
    """Activations of products with quantized weights in int8, groups of 32: what integer kernels need."""

    rules = (QuantizeActivation,)
    formats: str = ""  # of the weights, q4_0|q8_0; every format, unless given

    def __post_init__(self) -> None:
        for name in _names(self.formats):
            FORMATS.find(name, ValueError)


def _names(formats: str) -> list[str]:
    return formats.lower().split("|") if formats else []
