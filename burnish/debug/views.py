"""What became of a graph's views: how many turned into squeezes, merged or cancelled, and which remain, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from burnish.ir.graph import Node
from burnish.ir.module import Module
from burnish.ir.ops.shape import Reshape, Squeeze, Transpose, Unsqueeze
from burnish.ir.text import neighbourhood
from burnish.passes.engine import Context
from burnish.passes.simplify_memory import ReshapeToSqueeze, TransposeToReshape

__all__ = ["ViewReport", "report_views", "views_of"]

_FATES = {
    "became squeeze or unsqueeze": ("ReshapeToSqueeze", "TransposeToReshape"),
    "merged": (
        "MergeReshapes",
        "MergeSqueezes",
        "MergeTransposes",
        "MergeBroadcasts",
        "ReshapeAbsorbsSqueeze",
        "TransposeOfMatrices",
    ),
    "cancelled": ("DropNoOp", "OperandBroadcasts"),
}


@dataclass(frozen=True)
class ViewReport:
    """How often each thing happened to a view, and the views that are left: (statement, why it is no squeeze)."""

    fates: dict[str, int]
    remain: list[tuple[str, str]]
    unit: list[Node]  # reshapes that are left although they only add or drop unit dimensions

    def __str__(self) -> str:
        lines = [f"{count:4} {fate}" for fate, count in self.fates.items()]
        lines.append(f"{len(self.remain):4} remain")
        return "\n".join([*lines, *(f"     {statement}: {why}" for statement, why in self.remain)])


def views_of(module: Module) -> list[Node]:
    """The reshapes, transposes, squeezes and unsqueezes of run time."""
    kinds = (Reshape, Transpose, Squeeze, Unsqueeze)
    return [n for g in module.every_graph for n in g if isinstance(n.op, kinds) and n.time != "weight"]


def report_views(context: Context) -> ViewReport:
    """What the passes that ran through `context` did to the views of its module."""
    applied = Counter(a.rule for a in context.applied)
    fates = {fate: sum(applied[rule] for rule in rules) for fate, rules in _FATES.items()}
    remain, unit = [], []
    for node in views_of(context.module):
        why = _why(node)
        if why is None:
            unit.append(node)
        remain.append((_statement(node), why or "it only adds or drops unit dimensions"))
    return ViewReport(fates, remain, unit)


def _why(node: Node) -> str | None:
    x, out = node.operands[0], node.out
    match node.op:
        case Reshape():
            return ReshapeToSqueeze().where(x, out)
        case Transpose(perm=perm):
            return TransposeToReshape().where(x, perm)
    return "it adds or drops unit dimensions, and says so"


def _statement(node: Node) -> str:
    return neighbourhood(node, 0).strip().removeprefix("> ").partition(" <- ")[0]
