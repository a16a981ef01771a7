"""quantize-activations: what goes into a quantized product in 8 bits too."""

from __future__ import annotations

from collections.abc import Iterator

from burnish.ir.builder import Ops
from burnish.ir.format import FORMATS, FormatError
from burnish.ir.graph import Node, Value
from burnish.ir.ops.experts import ExpertLinear
from burnish.ir.ops.linear import Linear
from burnish.ir.ops.quantization import Quantize
from burnish.passes.engine import Match, RewritePass, Rule

ROUNDED = Quantize(format="int8_32")


class QuantizeActivation(Rule):
    """linear(x, w quantized) -> linear(quantize(x, int8_32), w); of experts too"""

    exactness = "lossy"
    at = (Linear, ExpertLinear)
    example = """module {
      weights {
        @w: q4_0[8, 64]
        @experts: q4_0[4, 8, 64]
      }
      graph forward(%x: f32[2, 64], %chosen: i32[2, 3]) {
        %0: f32[2, 8] = linear(%x, @w) <- "linear"
        %1: f32[2, 1, 64] = reshape(%x, shape=[2, 1, 64]) <- "experts"
        %2: f32[2, 3, 8] = expert_linear(%1, @experts, %chosen) <- "experts"
        return y=%0, z=%2
      }
    }"""

    def find(self, node: Node) -> Iterator[Match]:
        yield Match({"x": node["x"], "w": node["w"]}, [node], list(node.outputs), [])

    def where(self, x: Value, w: Value) -> str | None:
        wanted = getattr(self.options, "format", "").lower()
        if wanted and w.dtype != wanted:
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

    def build(self, op: Ops, x: Value, out: Value) -> Value:
        node = out.node
        assert node is not None
        there = next((u.out for u in x.users if u.op == ROUNDED), None)  # what several products read is rounded once
        return op.again(node, node.op.changed(to=out.dtype), x=there or op.emit(ROUNDED, [x]))


class QuantizeActivations(RewritePass):
    """Activations of products with quantized weights in int8, groups of 32: what integer kernels need."""

    rules = (QuantizeActivation,)
    format: str = ""  # of the weights; every format, unless given

    def __post_init__(self) -> None:
        if self.format:
            FORMATS.find(self.format.lower(), ValueError)
