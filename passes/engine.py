"""Passes that run rules, and all that who writes a pass needs.

A `Pass` is a dataclass whose fields are its options. A `RewritePass` runs its rules to a fixpoint; any other pass is a
function over the module. Both change it only through the one door, `Context.rewrite` and its siblings, which ask the
one controller (apply or skip), keep the promises, and record origin and remarks: see `door.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from burnish.ir.graph import Node
from burnish.ir.module import Module
from burnish.ir.types import InferError
from burnish.passes.door import (
    PASSES,
    Application,
    Context,
    Controller,
    Endless,
    Observer,
    Pass,
    PassError,
    Remark,
    Unaccounted,
    other_users,
)
from burnish.passes.pattern import Const, Match, Pattern
from burnish.passes.rule import RULES, Exactness, Rule

__all__ = [
    "PASSES",
    "RULES",
    "Application",
    "Const",
    "Context",
    "Controller",
    "Endless",
    "Exactness",
    "Match",
    "Observer",
    "Pass",
    "PassError",
    "Pattern",
    "Remark",
    "RewritePass",
    "Rule",
    "Unaccounted",
]


class RewritePass(Pass, base=True):
    """Its rules, run to a fixpoint over every graph."""

    def run(self, module: Module, ctx: Context) -> None:
        """Match every node; then, as long as something changes, what changed and what looks at it."""
        rules = [r() for r in self.rules]
        for rule in rules:
            rule.options = self
        index: dict[type, list[Rule]] = {}
        for rule in rules:
            for op in rule.roots:
                index.setdefault(op, []).append(rule)
        depth = max((r.depth for r in rules), default=1)
        for graph in module.every_graph:
            work = list(graph)
            while work:  # the door raises Endless where it does not end
                changed = [made for node in work for made in self._visit(node, index, ctx)]
                work = _looking_at(changed, depth)

    def _visit(self, node: Node, index: dict[type, list[Rule]], ctx: Context) -> list[Node]:
        rules = index.get(type(node.op), ())
        if node.graph is None or not rules:
            return []
        ctx.visited += 1
        for rule in rules:
            made = self._try(node, rule, ctx)
            if made is not None:
                return made
        return []

    def _try(self, node: Node, rule: Rule, ctx: Context) -> list[Node] | None:
        refused: tuple[Match, str] | None = None
        for match in rule.find(node):
            reason = other_users(match.nodes, match.roots)
            if reason is None:
                try:
                    reason = rule.call(rule.where, match)
                except InferError as e:
                    reason = str(e)
            if reason is None:
                build = partial(rule.call, rule.build, match)
                read = [v for n in match.nodes for v in n.operands]
                made = ctx.rewrite(rule, match.nodes, match.roots, build, aside=match.aside)
                if made is not None:  # where one user is left, another one is no longer in its way
                    return made + [u for v in read if len(v.uses) == 1 for u in v.users]
            elif reason and refused is None:
                refused = (match, reason)
        if refused is not None:
            ctx.remark(rule, refused[0].nodes, refused[0].roots, refused[1], refused[0].aside)
        return None


def _looking_at(nodes: Iterable[Node], depth: int) -> list[Node]:
    """The nodes, and those that see them within `depth` steps."""
    seen: dict[Node, None] = {n: None for n in nodes if n.graph is not None}
    edge = list(seen)
    for _ in range(depth):
        edge = [u for n in edge for o in n.outputs for u in o.users if u not in seen and u.graph and u in u.graph]
        seen.update(dict.fromkeys(edge))
    return list(seen)
