"""quantize-weights: the weights of linears and embeddings in a quantized format."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from burnish.ir.builder import Ops
from burnish.ir.format import FORMATS, FormatError
from burnish.ir.graph import Node, Return, Value
from burnish.ir.module import Module
from burnish.ir.ops.linear import Embedding, Linear
from burnish.ir.origin import block_of
from burnish.passes.engine import Context, Pass


class QuantizeWeights(Pass):
    """linear(x, w) -> linear(x, quantize(w)); likewise embedding.

    A format for the matrices of the blocks, for the head (`lm`) and for the table of tokens (`embedding`); `none`
    leaves those as they are. A tied matrix that gets one format in both places is stored once.
    """

    exactness = "lossy"
    format: str = "q4_0"
    lm: str = ""  # `format`, unless given
    embedding: str = "none"

    def run(self, module: Module, ctx: Context) -> None:
        for graph in module.every_graph:
            for node in graph:
                if not isinstance(node.op, Linear | Embedding) or node.inputs[1] is None:
                    continue
                w = node.inputs[1]
                format = self._format(node)
                if format == "none":
                    continue
                if reason := _why_not(w, format):
                    ctx.remark("QuantizeWeight", [node], node.outputs, reason)
                else:
                    ctx.rewrite("QuantizeWeight", [node], node.outputs, partial(_quantized, node=node, format=format))

    def _format(self, node: Node) -> str:
        if isinstance(node.op, Embedding):
            return self.embedding
        return (self.lm or self.format) if _is_head(node) else self.format


def _is_head(node: Node) -> bool:
    """Whether the product makes the logits: it is outside of every block and leaves its graph."""
    return not block_of(node.origin.scope) and any(isinstance(u.op, Return) for u in node.out.users)


def _why_not(w: Value, format: str) -> str | None:
    if not w.is_weight:
        return f"{w.type} is not a weight"
    if w.type.format is not None:
        return f"{w.type} is quantized already"
    try:
        FORMATS[format].check(w.shape[-1])
    except FormatError as e:
        return str(e)
    return None


def _quantized(op: Ops, node: Node, format: str) -> Value:
    assert isinstance(node.op, Linear | Embedding)
    x, w, *bias = node.inputs
    return op.emit(replace(node.op, to=node.out.dtype), [x, op.quantize(w, format=format), *bias])
