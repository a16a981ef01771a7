"""quantize-weights: which weight gets which format is data, a recipe."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from burnish.ir.builder import Ops
from burnish.ir.format import FORMATS, FormatError
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.module import Module
from burnish.ir.ops.experts import TopK
from burnish.ir.ops.linear import Embedding, Linear
from burnish.ir.origin import block_of, dotted
from burnish.ir.signature import LOGITS
from burnish.passes.engine import Context, Pass, Rule

__all__ = ["RecipeError"]

ROLES = ("embedding", "lm", "router")


class RecipeError(ValueError):
    """A recipe that cannot be read, or a rule of it that is for nothing."""


@dataclass(frozen=True)
class _Line:
    """A rule of a recipe. `names` is a glob or a role; empty, it stands for all products but routers."""

    text: str
    names: str
    formats: tuple[str, ...]

    def fits(self, name: str, role: str) -> bool:
        if not self.names:
            return role not in ("embedding", "router")
        return self.names == role if self.names in ROLES else fnmatchcase(name, self.names)


def _lines(recipe: str) -> Iterator[_Line]:
    """Read `names=format|format;…`. Raises RecipeError."""
    for text in map(str.strip, recipe.split(";")):
        names, equals, formats = text.rpartition("=")
        choices = tuple(f.strip().lower() for f in formats.split("|"))
        if set(text) & set(",{}") or (equals and not names.strip()) or not all(choices):
            raise RecipeError(f"cannot read {text!r} in the recipe {recipe!r}; its form is names=format|format;…")
        for format in choices:
            if format != "none" and (fault := _why_not_made(format)):
                raise RecipeError(fault)
        yield _Line(text, names.strip(), choices)


def _why_not_made(format: str) -> str | None:
    """None, or why weights cannot be quantized to what is called so."""
    made = sorted(name for name, fmt in FORMATS.items() if fmt.is_made)
    if format in FORMATS:
        return None if format in made else f"{format} is read, not made, yet; there are {', '.join(made)}, none"
    near = difflib.get_close_matches(format[:100], made, cutoff=0.7)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    if re.fullmatch(r"i?q\d_k_\w+", format):
        hint = "; llama.cpp's mixtures are recipes here, 'lm=q8_0;*.v_proj=q8_0;q4_0' for instance"
    return f"unknown format {format[:100]!r}; there are {', '.join(made)}, none{hint}"


class QuantizeWeight(Rule):
    """op(x, w) -> op(x, quantize(w)), w the operand that the op declares as its weight"""

    exactness = "lossy"


class QuantizeWeights(Pass):
    """Each weight in the format that a recipe has for it.

    A recipe is rules `names=format`, separated by `;`, of which the first that fits a weight decides. Names are a glob
    over the module paths of the nodes that read weights (`*.v_proj`, `lm_head`), or a role: `lm`, the product that
    makes logits; `embedding`, tables of tokens; `router`, what experts are chosen by, or weighed: a block's products of
    one output. `none` leaves a weight as it is, and of several formats, `q4_0|int8`, the first that fits its width is
    taken. A format without names is for all products but routers. A rule that is for nothing is an error.
    """

    rules = (QuantizeWeight,)
    recipe: str = "q4_0"

    def __post_init__(self) -> None:
        list(_lines(self.recipe))

    def run(self, module: Module, ctx: Context) -> None:
        """Each weight once, wherever it is read."""
        lines = list(_lines(self.recipe))
        names: dict[str, None] = {}
        fitting: set[_Line] = set()
        reached: set[_Line] = set()
        for graph in module.every_graph:
            roles = _roles(graph)
            for node in list(graph):
                if node.op.weight is None:
                    continue
                names[name := dotted(node.origin.scope)] = None
                fit = [line for line in lines if line.fits(name, roles.get(node, ""))]
                fitting.update(fit)
                reached.update(fit[:1])
                _quantize(node, fit[0] if fit else None, ctx)
        for line in lines:
            if line in fitting and line not in reached:
                raise RecipeError(f"{line.text!r} is never reached: rules before it take all that it is for")
            if line not in fitting and line.names not in (*ROLES, "*", ""):
                raise RecipeError(f"no weight is called {line.names!r}; there are {_some_like(line.names, names)}")


def _some_like(glob: str, names: Iterable[str]) -> str:
    """A few of the names, those first that end as the glob does."""
    ends: dict[str, str] = {}
    for name in names:
        ends.setdefault(name.rpartition(".")[2], name or "''")
    near = difflib.get_close_matches(glob.rpartition(".")[2], ends, 3) or list(ends)[:3]
    return ", ".join([*(ends[end] for end in near), *(["…"] if len(near) < len(ends) else [])]) or "none"


def _quantize(node: Node, line: _Line | None, ctx: Context) -> None:
    assert node.op.weight is not None
    rule, w = QuantizeWeight(), node[node.op.weight]
    format, reason = (None, "the recipe has no rule for it") if line is None else _choice(line, w)
    if format is not None:

        def build(op: Ops) -> Value:
            return _on_packed(op, node, op.quantize(w, format=format))

        ctx.rewrite(rule, [node], node.outputs, build)
    elif reason:
        ctx.remark(rule, [node], node.outputs, reason)


def _choice(line: _Line, w: Value) -> tuple[str | None, str]:
    """The format that a weight gets, or None and the reason."""
    if w.dtype in line.formats:
        return None, ""  # as it should be
    if w.type.format is not None:
        return None, f"{w.dtype} is quantized already"
    if not w.is_weight:
        return None, f"{w.type} is not a weight"
    misfits: list[str] = []
    for format in line.formats:
        if format == "none":
            return None, "; ".join([*misfits, f"the recipe says {line.text}"])
        try:
            FORMATS[format].check(w.shape[-1])
            return format, ""
        except FormatError as e:
            misfits.append(str(e))
    return None, "; ".join(misfits)


def _on_packed(op: Ops, node: Node, w: Value) -> Value:
    """The node with that weight; where the weight said of what type the result is, the node says it now."""
    assert node.op.weight is not None
    made = op.again(node, **{node.op.weight: w})
    if made.type == node.out.type:
        return made
    return op.again(node, node.op.changed(to=node.out.dtype), **{node.op.weight: w})


def _roles(graph: Graph) -> dict[Node, str]:
    """What the nodes that read weights are for, where a recipe has a word for it."""
    roles: dict[Node, str] = {}
    logits = graph.output_for(LOGITS)
    for node in _readers_above(logits) if logits is not None else ():
        if block_of(node.origin.scope) is None:
            roles[node] = "lm"
    for node in graph:
        if isinstance(node.op, TopK):
            roles.update(dict.fromkeys(_readers_above(node["x"]), "router"))
        if isinstance(node.op, Embedding):
            roles[node] = "embedding"
        if isinstance(node.op, Linear) and node["w"].shape[0] == 1 and block_of(node.origin.scope) is not None:
            roles[node] = "router"
    return roles


def _readers_above(value: Value) -> Iterator[Node]:
    """The nodes with a weight that a value is made of, by way of nodes without."""
    seen: set[Node] = set()
    work = [value]
    while work:
        node = work.pop().node
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.op.weight is not None:
            yield node
        else:
            work += node.operands
