"""set-layouts: quantized weights lie in memory as those who run the graph read them best."""

from __future__ import annotations

from functools import partial

from burnish.ir.builder import Ops
from burnish.ir.format import LAYOUTS, FormatError
from burnish.ir.graph import Node, Value
from burnish.ir.module import Module
from burnish.ir.ops.linear import Embedding, Linear
from burnish.ir.ops.quantization import Relayout
from burnish.passes.engine import Context, Pass


class SetLayouts(Pass):
    """linear(x, w quantized) -> linear(x, relayout(w)); likewise embedding, where rows can be read from the layout"""

    layout: str

    def run(self, module: Module, ctx: Context) -> None:
        if self.layout not in LAYOUTS:
            raise FormatError(f"there is no layout {self.layout!r}; there are {', '.join(filter(None, LAYOUTS))}")
        for graph in module.every_graph:
            for node in graph:
                w = node.inputs[1] if isinstance(node.op, Linear | Embedding) else None
                if w is None or w.type.format is None or w.type.layout == self.layout:
                    continue
                if reason := self._why_not(node, w):
                    ctx.remark("SetLayout", [node], node.outputs, reason)
                else:
                    ctx.rewrite("SetLayout", [node], node.outputs, partial(self._lying, node=node, w=w))

    def _why_not(self, node: Node, w: Value) -> str | None:
        layout = LAYOUTS[self.layout]
        if w.time == "run":
            return f"{w.type} is not known before run time"
        if isinstance(node.op, Embedding) and not layout.by_rows:
            return f"rows cannot be read from the layout {self.layout}"
        assert w.type.format is not None
        return layout.accepts(w.type.format, w.shape)

    def _lying(self, op: Ops, node: Node, w: Value) -> Value:
        x, _, *rest = node.inputs
        relayout = Relayout(layout=self.layout)
        there = next((u.out for u in w.users if u.op == relayout), None)  # a tied matrix is kept once
        return op.emit(node.op, [x, there or op.emit(relayout, [w]), *rest])
