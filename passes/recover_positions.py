"""recover-positions: counting from 0 to the number of tokens is their positions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from burnish.ir.builder import Ops
from burnish.ir.dims import Dim
from burnish.ir.graph import Node, Value
from burnish.ir.ops.attention import Rope
from burnish.ir.ops.elementwise import Add, Div, Mul, Sub, Where
from burnish.ir.ops.shape import BroadcastTo
from burnish.ir.signature import TOKENS
from burnish.passes.counted import Counted, bare, behind_batch
from burnish.passes.engine import Const, Match, Pattern, RewritePass, Rule


class CumulativeOnes(Rule):
    """cumulative_sum(an integer c everywhere) -> c * (1, 2, 3, …)"""

    exactness = "rounding"  # of floats, beyond the integers that they hold
    example = {"c": np.array([[2]], "i8"), "shape": (3, 5), "axis": 1}

    def match(self, op: Ops, c: Const, *, shape: tuple[Dim, ...], axis: int) -> Pattern:
        return op.cumulative_sum(op.aside(op.broadcast_to(c, shape=shape)), axis=axis)

    def where(self, c: Value) -> str | None:
        good = c.literal is not None and c.literal.size == 1 and float(c.literal.item()).is_integer()
        return None if good else ""

    def build(self, op: Ops, c: Value, out: Value, axis: int) -> Value:
        assert c.literal is not None
        at = out.type.axis(axis)
        steps = op.add(op.iota(size=out.shape[at], dtype=out.dtype), 1)
        if (number := c.literal.item()) != 1:
            steps = op.mul(steps, number)
        row = op.unsqueeze(steps, axes=tuple(i for i in range(out.type.rank) if i != at))
        return row if row.shape == out.shape else op.broadcast_to(row, shape=out.shape)


class PositionsOfTokens(Rule):
    """f(x, g(0, 1, …, S - 1)), x of S tokens -> f(x, g(positions(ids)))

    Where x and what is made of the count meet: what turns x, or is added to it, goes on from step to step then. Where
    rows were cut from a table, the slice's guard stays: there are no more tokens than it has rows.
    """

    exactness = "rounding"  # products of more rows
    at = (Add, Sub, Mul, Div, Where, BroadcastTo, Rope)
    example = """module {
      weights {
        @w: f32[9, 4]
        @inv_freq: f32[2]
      }
      guard at_most(S, 9)
      graph forward(%ids: i32[B, S] is tokens, %x: f32[B, S, 4], %y: f32[B, S, 1, 4]) {
        %0: i32[S] = iota(size=S) <- "iota"
        %1: i32[1, S] = unsqueeze(%0, axes=[0]) <- "row"
        %2: f32[1, S, 4] = embedding(%1, @w) <- "embedding"
        %3: f32[B, S, 4] = add(%2, %x) <- "add"
        %4: f32[B, S, 1, 4] = rope(%y, %1, @inv_freq) <- "rope"
        %5: f32[S, 4] = slice(@w, axis=0, start=0, stop=S) <- "slice"
        %6: f32[S, 4] = cos(%5) <- "cos"
        %7: f32[B, S, 4] = mul(%3, %6) <- "mul"
        return y=%7, z=%4
      }
    }"""

    def __init__(self) -> None:
        self.counted: dict[Value, Counted] = {}  # by tokens: one count serves every block

    def find(self, node: Node) -> Iterator[Match]:
        out, ids = node.out, node.out.graph.input_for(TOKENS)
        if ids is None or ids.type.rank != 2 or out.shape[:1] != ids.shape[:1]:
            return
        counted = self.counted.setdefault(ids, Counted(ids, self.name))
        found = {node.op.operand(i): v for i, v in enumerate(node.inputs) if v is not None and counted.has(v)}
        found = {name: v for name, v in found.items() if len(counted.form(v)) <= out.type.rank}
        if isinstance(node.op, Rope):
            found = {name: v for name, v in found.items() if name == "positions"}
        if found and not counted.has(out):
            yield Match({"found": found, "counted": counted}, [node], list(node.outputs), [])

    def build(self, op: Ops, found: dict[str, Value], counted: Counted, out: Value) -> Value:
        assert out.node is not None
        made = {name: counted.anew(op, v) for name, v in found.items()}
        if isinstance(out.op, Rope):
            return op.again(out.node, positions=bare(made["positions"]))
        given = {name: behind_batch(op, v, out.type.rank) for name, v in made.items()}
        if isinstance(out.op, BroadcastTo) and given["x"].shape == out.shape:
            return given["x"]
        return op.again(out.node, **given)


class RecoverPositions(RewritePass):
    """Counting from 0 to the number of tokens is their positions, where what is made of it meets the tokens."""

    rules = (CumulativeOnes, PositionsOfTokens)
