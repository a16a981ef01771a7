"""The text form of modules, graphs and types: `parse(str(m)) == m` and `str(parse(t)) == t`.

    module  = "module" "{" {fact "=" attr} ["weights" "{" {weight} "}"] {guard} {graph} "}"
    weight  = ref ":" type origin
    guard   = "guard" ("equal" | "at_most") "(" dim "," dim ")" | "guard" string graph
    graph   = "graph" name "(" [param {"," param}] ")" "{" ["weights" "{" {stmt} "}"] {stmt} "return" outputs "}"
    param   = ref ":" type [role]
    outputs = [output {"," output}]
    output  = name "=" operand [role]
    role    = "is" name ["(" [name "=" attr {"," name "=" attr}] ")"]
    stmt    = "scope" string
            | ref {"," ref} ":" type {"," type} "=" op "(" [arg {"," arg}] ")" ["{" {graph} "}"] origin
    origin  = ["<-" string {"," string}] ["by" string {"," string}]
    arg     = operand | name "=" attr
    operand = ref | "_" | dtype "(" attr ")"
    ref     = ("%" | "@") (plain name | string)
    attr    = number | string | "true" | "false" | "none" | dim | "[" [attr {"," attr}] "]"
    type    = dtype ["." layout] "[" [dim {"," dim}] "]"
    dim     = integer | name | "{" expression "}"

`%` is a value known at run or load time, `@` one known at weight time; `@name` is a weight. A scope is a module path
with the index of each block in brackets, `model.layers[3].self_attn`. Values are numbered within their block, `%3.0`
(`%1.3.0` in a graph's second stack of blocks), so that one inserted node changes one block's lines. `_` is an operand
that is not there. A graph's `weights` are its statements of weight time. A constant of more than a few numbers is known
by its sha256.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from burnish.ir.guards import Comparison
from burnish.ir.leaves import Constant, Weight
from burnish.ir.literal import attribute_text, quote
from burnish.ir.origin import Origin, block_of

if TYPE_CHECKING:
    from burnish.ir.graph import Graph, Node, Value
    from burnish.ir.module import Module
    from burnish.ir.signature import Role

__all__ = ["Names", "graph_text", "module_text", "neighbourhood", "side_by_side", "statements"]

_PLAIN = re.compile(r"[A-Za-z_](?:[\w./:-]*\w)?", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_KEYWORDS = ("graph", "guard", "inf", "weights")  # names that are quoted, for they begin something else


def _name(name: str) -> str:
    return name if _NAME.fullmatch(name) and name not in _KEYWORDS else quote(name)


def _ref(sigil: str, name: str) -> str:
    return sigil + (name if _PLAIN.fullmatch(name) else quote(name))


def _origin_text(origin: Origin) -> str:
    sources = " <- " + ", ".join(map(quote, origin.sources)) if origin.sources else ""
    rules = " by " + ", ".join(map(quote, origin.rules)) if origin.rules else ""
    return sources + rules


def _role(role: Role | None) -> str:
    return "" if role is None else f" is {role}"


def is_inline(node: Node) -> bool:
    """Whether the node is a leaf that is written where it is used."""
    return isinstance(node.op, Weight) or (isinstance(node.op, Constant) and node.op.value.inline is not None)


@dataclass
class _Numbering:
    """What a graph's values are called, and the last number behind each prefix."""

    names: dict[Value, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    stacks: dict[str, int] = field(default_factory=dict)


class Names:
    """What values are called in texts of a module that changes from one to the next.

    A value keeps its name as long as it is there. Afterwards only what takes its place is called so: a difference
    between two texts is one in what they say.
    """

    def __init__(self) -> None:
        self._of: dict[Graph, _Numbering] = {}

    def of(self, graph: Graph) -> _Numbering:
        """Those of one graph."""
        return self._of.setdefault(graph, _Numbering())

    def hand_over(self, old: Value, new: Value) -> None:
        """Call a value that has no name yet as the one that it has replaced."""
        names = self.of(new.graph).names
        if old in names and new not in names:
            names[new] = names.pop(old)


class _Printer:
    """The names of one graph's values, and its statements."""

    def __init__(self, graph: Graph, names: Names | None = None, provenance: bool = True) -> None:
        self.graph, self.order, self.provenance = graph, graph.order(), provenance
        self.all_names = names or Names()
        numbering = self.all_names.of(graph)
        self.names, counts, stacks = numbering.names, numbering.counts, numbering.stacks
        self.names.update((v, _ref("%", v.name)) for v in graph.inputs)
        for node in self.order:
            if isinstance(node.op, Weight):
                self.names[node.out] = _ref("@", node.op.tensor)
            elif isinstance(node.op, Constant) and node.op.value.inline is not None:
                self.names[node.out] = node.op.value.inline
            else:
                prefix = "@" if node.time == "weight" else "%"
                if (block := block_of(node.origin.scope)) is not None:
                    stack = stacks.setdefault(block.stack, len(stacks))
                    prefix += f"{stack}.{block.index}." if stack else f"{block.index}."
                for o in node.outputs:
                    if not self.names.get(o, "").startswith(prefix[0]):
                        counts[prefix] = counts.get(prefix, -1) + 1
                        self.names[o] = f"{prefix}{counts[prefix]}"

    def operand(self, value: Value | None) -> str:
        return "_" if value is None else self.names.get(value, f"<a value of graph {value.graph.name}>")

    def statement(self, node: Node, indent: str, bodies: bool = True) -> str:
        if node is self.graph.ret:
            named = zip(self.graph.output_names, node.inputs, strict=True)
            outputs = (f"{_name(k)}={self.operand(v)}{_role(self.graph.roles.get(k))}" for k, v in named)
            return f"{indent}return {', '.join(outputs)}".rstrip()
        results = ", ".join(self.names[o] for o in node.outputs)
        types = ", ".join(str(o.type) for o in node.outputs)
        arguments = [self.operand(v) for v in node.inputs] + [f"{k}={t}" for k, t in node.op.attributes]
        line = f"{indent}{results}: {types} = {node.op.name}({', '.join(arguments)})"
        if node.bodies and bodies:
            texts = [_Printer(b, self.all_names, self.provenance).text(indent + "  ") for b in node.bodies]
            line += " {\n" + "\n".join(texts) + f"\n{indent}}}"
        return line + (_origin_text(node.origin) if self.provenance else "")

    def block(self, nodes: list[Node], indent: str) -> list[str]:
        lines, scope = [], ""
        for node in nodes:
            if node.origin.scope != scope:
                scope = node.origin.scope
                lines.append(f"{indent}scope {quote(scope)}")
            lines.append(self.statement(node, indent))
        return lines

    def head(self) -> str:
        inputs = ", ".join(f"{self.names[v]}: {v.type}{_role(v.role)}" for v in self.graph.inputs)
        return f"graph {_name(self.graph.name)}({inputs}) {{"

    def text(self, indent: str) -> str:
        lines = [indent + self.head()]
        shown = [n for n in self.order if not is_inline(n)]
        if early := [n for n in shown if n.time == "weight"]:
            lines += [f"{indent}  weights {{", *self.block(early, indent + "    "), f"{indent}  }}"]
        lines += self.block([n for n in shown if n.time != "weight"], indent + "  ")
        return "\n".join([*lines, self.statement(self.graph.ret, f"{indent}  "), f"{indent}}}"])


def graph_text(graph: Graph, indent: str = "") -> str:
    """One graph, without the table of weights."""
    return _Printer(graph).text(indent)


def statements(graph: Graph, names: Names, provenance: bool = True) -> list[str]:
    """The head, the statements and the end of a graph, without scopes and bodies; each line is there once."""
    printer = _Printer(graph, names, provenance)
    shown = [*(n for n in printer.order if not is_inline(n)), graph.ret]
    return [printer.head(), *(printer.statement(n, "", bodies=False) for n in shown)]


def module_text(module: Module, provenance: bool = True) -> str:
    """A whole module; where nodes come from may be left out, and is lost to whoever reads it again."""
    lines = ["module {"]
    lines += [f"  {_name(k)} = {attribute_text(v)}" for k, v in module.facts.given().items()]
    if module.weights:
        rows = [f"    {_ref('@', k)}: {e.type}{_origin_text(e.origin)}" for k, e in module.weights.items()]
        lines += ["  weights {", *rows, "  }"]
    for guard in module.guards:
        if isinstance(guard, Comparison):
            lines.append(f"  guard {guard}")
        else:
            lines.append(f"  guard {quote(guard.reason)} {graph_text(guard.graph, '  ').lstrip()}")
    lines += [_Printer(g, provenance=provenance).text("  ") for g in module.graphs.values()]
    return "\n".join([*lines, "}"]) + "\n"


def neighbourhood(node: Node, context: int = 2) -> str:
    """The statements around a node, itself marked; for messages. Works on a graph that is not sound."""
    graph = node.graph
    if graph is None:
        return f"(erased) {node!r}"
    try:
        printer = _Printer(graph)
    except ValueError:  # a cycle: there is no order to print in
        return repr(node)
    shown = [*(n for n in printer.order if not is_inline(n)), graph.ret]
    if node not in shown:  # a leaf is written where it is read
        node = next((user for user in node.out.users if user in shown), node)
    if node not in shown:
        return repr(node)
    at = shown.index(node)
    near = range(max(0, at - context), min(len(shown), at + context + 1))
    return "\n".join(("  > " if i == at else "    ") + printer.statement(shown[i], "    ")[4:] for i in near)


def side_by_side(left: str, right: str, width: int = 76) -> str:
    """Two texts in two columns, `|` between equal lines and `≠` between different ones."""
    a, b = left.splitlines(), right.splitlines()
    rows = []
    for i in range(max(len(a), len(b))):
        x, y = a[i] if i < len(a) else "", b[i] if i < len(b) else ""
        rows.append(f"{x[:width]:{width}} {'|' if x == y else '≠'} {y[:width]}".rstrip())
    return "\n".join(rows)
