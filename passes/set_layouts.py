"""set-layouts: quantized weights lie in memory as those who run the graph read them best."""

from __future__ import annotations

from collections.abc import Iterator

from burnish.ir.builder import Ops
from burnish.ir.format import LAYOUTS, FormatError
from burnish.ir.graph import Node, Value
from burnish.ir.module import Module
from burnish.ir.ops.experts import ExpertLinear
from burnish.ir.ops.linear import Embedding, Linear
from burnish.ir.ops.quantization import Relayout
from burnish.passes.engine import Context, Match, RewritePass, Rule


class SetLayout(Rule):
    """linear(x, w quantized, as stored) -> linear(x, relayout(w)); of a table, where rows are read from the layout"""

    at = (Linear, Embedding, ExpertLinear)
    example = """module {
      weights { @w: q4_0[8, 64] }
      graph forward(%x: f32[2, 64]) {
        %0: f32[2, 8] = linear(%x, @w) <- "linear"
        return y=%0
      }
    }"""

    @property
    def layout(self) -> str:
        """The one that the pass was asked for."""
        return str(getattr(self.options, "layout", "planes"))

    def find(self, node: Node) -> Iterator[Match]:
        w = node[node.op.weight] if node.op.weight is not None else None
        if w is not None and w.type.format is not None and not w.type.layout:
            yield Match({"w": w}, [node], list(node.outputs), [])

    def where(self, w: Value, out: Value) -> str | None:
        layout = LAYOUTS[self.layout]
        if w.time == "run":
            return f"{w.type} is not known before run time"
        if isinstance(out.op, Embedding) and not layout.by_rows:
            return f"rows cannot be read from the layout {self.layout}"
        assert w.type.format is not None
        return layout.accepts(w.type.format, w.shape)

    def build(self, op: Ops, w: Value, out: Value) -> Value:
        node, relayout = out.node, Relayout(layout=self.layout)
        assert node is not None and node.op.weight is not None
        there = next((u.out for u in w.users if u.op == relayout), None)  # a tied matrix is kept once
        return op.again(node, **{node.op.weight: there or op.emit(relayout, [w])})


class SetLayouts(RewritePass):
    """Quantized weights in the layout in which they are read best."""

    rules = (SetLayout,)
    layout: str

    def run(self, module: Module, ctx: Context) -> None:
        if self.layout not in LAYOUTS:
            raise FormatError(f"there is no layout {self.layout!r}; there are {', '.join(filter(None, LAYOUTS))}")
        super().run(module, ctx)
