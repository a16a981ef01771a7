"""quantize-weights: the weights of linears and embeddings in a quantized format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from burnish.ir.builder import Ops
from burnish.ir.format import FORMATS, FormatError
from burnish.ir.graph import Node, Value
from burnish.ir.leaves import Return
from burnish.ir.ops.linear import Embedding, Linear
from burnish.ir.origin import block_of
from burnish.passes.engine import Match, RewritePass, Rule


class QuantizeWeight(Rule):
    """linear(x, w) -> linear(x, quantize(w)); likewise embedding"""

    exactness = "lossy"
    at = (Linear, Embedding)
    example = """module {
      weights { @w: f32[8, 64] }
      graph forward(%x: f32[2, 64]) {
        %0: f32[2, 8] = linear(%x, @w) <- "linear"
        return y=%0
      }
    }"""

    def find(self, node: Node) -> Iterator[Match]:
        format, weight = self._format(node), node.op.weight
        if format != "none" and weight is not None and node[weight].dtype != format:
            yield Match({"w": node[weight], "format": format}, [node], list(node.outputs), [])

    def _format(self, node: Node) -> str:
        chosen = self.options if isinstance(self.options, QuantizeWeights) else QuantizeWeights()
        if isinstance(node.op, Embedding):
            return chosen.embedding
        return (chosen.lm or chosen.format) if _is_head(node) else chosen.format

    def where(self, w: Value, format: str) -> str | None:
        if not w.is_weight:
            return f"{w.type} is not a weight"
        if w.type.format is not None:
            return f"{w.type} is quantized already"
        try:
            FORMATS[format].check(w.shape[-1])
        except FormatError as e:
            return str(e)
        return None

    def build(self, op: Ops, out: Value, w: Value, format: str) -> Value:
        node: Any = out.node
        return op.again(node, replace(node.op, to=out.dtype), **{node.op.weight: op.quantize(w, format=format)})


class QuantizeWeights(RewritePass):
    """The weights of products and of tables of tokens in a quantized format.

    A format for the matrices of the blocks, for the head (`lm`) and for the table of tokens (`embedding`); `none`
    leaves those as they are. A tied matrix that gets one format in both places is stored once.
    """

    rules = (QuantizeWeight,)
    format: str = "q4_0"
    lm: str = ""  # `format`, unless given
    embedding: str = "none"


def _is_head(node: Node) -> bool:
    """Whether the product makes the logits: it is outside of every block and leaves its graph."""
    return block_of(node.origin.scope) is None and any(isinstance(u.op, Return) for u in node.out.users)
