"""Reading the text form: see `text.py` for its grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from burnish.ir.dims import DimError, Sym, parse_dim
from burnish.ir.format import FORMATS
from burnish.ir.graph import Graph, Value
from burnish.ir.guards import AllTrue, AtMost, Equal
from burnish.ir.lexer import Lexer, TextError
from burnish.ir.literal import Literal
from burnish.ir.module import Module, WeightEntry
from burnish.ir.op import OPS
from burnish.ir.origin import Origin
from burnish.ir.signature import Role, SignatureError, make_facts, make_role
from burnish.ir.types import NUMPY, InferError, Type

__all__ = ["TextError", "parse", "parse_type"]

_SHA = re.compile(r"[0-9a-f]{32}")
_WRITTEN = re.compile(r"[\w.]+\[[\w, ]*\]", re.ASCII)  # a type; of many values the same
Key = tuple[str, str, bool]
_NESTING = 100  # deeper attributes or bodies are refused: a hostile file must not exhaust the stack


class _Parser(Lexer):
    """Recursive descent."""

    def __init__(self, text: str, constants: Mapping[str, np.ndarray]) -> None:
        super().__init__(text)
        self.constants, self.depth = constants, 0
        self.types: dict[str, Type] = {}

    def dim(self) -> int | Sym:
        if self.kind == "number":
            return self.integer()
        if self.is_at("{"):
            end = self.text.find("}", self.start)
            if end < 0:
                self.fail("a dimension and '}'")
            try:
                value = parse_dim(self.text[self.start : end + 1])
            except (DimError, RecursionError) as e:
                raise self.error(str(e)) from None
            self.at = end + 1
            self.advance()
            return value
        name = self.token if self.kind == "name" else self.fail("a dimension")
        try:
            symbol = Sym(name)
        except DimError as e:
            raise self.error(str(e)) from None
        self.advance()
        return symbol

    def type(self) -> Type:
        m = _WRITTEN.match(self.text, self.start)
        if m is not None and m[0] in self.types:
            self.at = m.end()
            self.advance()
            return self.types[m[0]]
        type = self.new_type()
        if m is not None:
            self.types[m[0]] = type
        return type

    def new_type(self) -> Type:
        dtype = self.take("name", "an element type")
        layout = self.take("name", "a layout") if self.maybe(".") else ""
        self.expect("[")
        shape = self.listed(self.dim, "]")
        try:
            return Type(dtype, tuple(shape), layout)
        except TypeError as e:
            raise self.error(str(e)) from None

    def attribute(self) -> Any:
        match self.kind:
            case "string":
                return self.string()
            case "number":
                return float(self.take("number")) if any(c in self.token for c in ".eEinf") else self.integer()
        if self.is_at("["):
            self.advance()
            self.depth += 1
            if self.depth > _NESTING:
                self.fail("less nesting")
            items = tuple(self.listed(self.attribute, "]"))
            self.depth -= 1
            return items
        words = {"true": True, "false": False, "none": None, "nan": float("nan")}
        if self.kind == "name" and self.token in words:
            return words[self.take("name")]
        return self.dim()

    def origin(self, scope: str) -> Origin:
        sources, rules = [], []
        if self.maybe("<-"):
            sources.append(self.string())
            while self.maybe(","):
                sources.append(self.string())
        if self.maybe("by"):
            rules.append(self.string())
            while self.maybe(","):
                rules.append(self.string())
        return Origin(scope, tuple(sources), tuple(rules))

    def module(self) -> Module:
        module, facts = Module(), dict[str, Any]()
        self.expect("module")
        self.expect("{")
        while not self.maybe("}"):
            if self.is_at("graph"):
                self.graph(module)
            elif self.maybe("weights"):
                self.expect("{")
                while not self.maybe("}"):
                    _, name, _ = self.ref()
                    if name in module.weights:
                        raise self.error(f"weight {name!r} is there twice")
                    self.expect(":")
                    type = self.type()
                    module.weights[name] = WeightEntry(type, self.origin(""))
            elif self.maybe("guard"):
                self.guard(module)
            else:
                key = self.name()
                self.expect("=")
                if key in facts:
                    raise self.error(f"the fact {key} is there twice")
                facts[key] = self.attribute()
                try:
                    make_facts({key: facts[key]})
                except SignatureError as e:
                    raise self.error(str(e)) from None
        if self.kind != "end":
            self.fail("the end")
        module.facts = make_facts(facts)
        return module

    def role(self) -> Role | None:
        if not self.maybe("is"):
            return None
        name, fields = self.take("name", "a role"), dict[str, Any]()

        def field() -> None:
            key = self.name()
            self.expect("=")
            fields[key] = self.attribute()

        if self.maybe("("):
            self.listed(field, ")")
        return make_role(name, fields)

    def guard(self, module: Module) -> None:
        if self.kind == "string":
            reason = self.string()
            module.guards.append(AllTrue(reason, self.graph(module, body=True)))
            return
        kind = next((k for k in (Equal, AtMost) if self.maybe(k.name)), None) or self.fail("'equal' or 'at_most'")
        self.expect("(")
        a = self.dim()
        self.expect(",")
        b = self.dim()
        self.expect(")")
        module.guards.append(kind(a, b))

    def graph(self, module: Module, body: bool = False) -> Graph:
        self.depth += 1
        if self.depth > _NESTING:
            self.fail("less nesting")
        self.expect("graph")
        name = self.name()
        graph = module.body(name) if body else module.graph(name)
        values: dict[Key, Value] = {}
        self.expect("(")

        def parameter() -> None:
            key = self.ref()
            self.expect(":")
            values[key] = graph.input(key[1], self.type())
            values[key].role = self.role()

        self.listed(parameter, ")")
        self.expect("{")
        if self.maybe("weights"):
            self.expect("{")
            self.statements(graph, values, "}")
        self.statements(graph, values, "return")

        roles: dict[str, Role] = {}

        def output() -> tuple[str, Value]:
            key = self.name()
            self.expect("=")
            value = self.operand(graph, values)
            if (role := self.role()) is not None:
                roles[key] = role
            return (key, value) if value is not None else self.fail("a value")

        outputs = self.listed(output, "}")
        graph.set_outputs(dict(outputs), roles)
        if len(graph.output_names) != len(outputs):
            raise self.error(f"graph {name} has two outputs of one name")
        graph.normalize()
        self.depth -= 1
        return graph

    def statements(self, graph: Graph, values: dict[Key, Value], close: str) -> None:
        scope = ""
        while not self.maybe(close):
            if self.maybe("scope"):
                scope = self.string()
            else:
                self.statement(graph, values, scope)

    def statement(self, graph: Graph, values: dict[Key, Value], scope: str) -> None:
        refs = [self.ref()]
        while self.maybe(","):
            refs.append(self.ref())
        self.expect(":")
        types = [self.type()]
        while self.maybe(","):
            types.append(self.type())
        self.expect("=")
        if self.kind == "name" and (self.token not in OPS or self.token in ("weight", "return")):
            near = [] if self.token in OPS else OPS.nearest(self.token)
            hint = f"; did you mean {', '.join(near)}?" if near else ", built in or of a plugin"
            raise self.error(f"there is no op {self.token!r}{hint}")
        name = self.take("name", "an op")
        inputs: list[Value | None] = []
        attributes: dict[str, Any] = {}

        def argument() -> None:
            if self.kind == "name" and self.text[self.at : self.at + 1] == "=":
                key = self.take("name")
                self.expect("=")
                attributes[key] = self.attribute()
            else:
                inputs.append(self.operand(graph, values))

        self.expect("(")
        self.listed(argument, ")")
        bodies = []
        if self.maybe("{"):
            while not self.maybe("}"):
                bodies.append(self.graph(graph.module, body=True))
        origin = self.origin(scope)
        if name == "constant":
            attributes["value"] = self.literal(attributes.get("value"), types[0])
        cls = OPS[name]
        if unknown := [k for k in attributes if k not in cls.fields()]:
            self.fail(f"attributes of {name} ({', '.join(cls.fields()) or 'it has none'}), not {unknown}, before this")
        if missing := [k for k in cls.fields() if k not in attributes and k not in cls.defaults()]:
            self.fail(f"{name}'s attributes {missing} before this")
        node = graph.emit(cls(**attributes), inputs, types, origin, bodies)
        if len(refs) != len(node.outputs):
            self.fail(f"a type for each of {len(refs)} results before this")
        for key in refs:
            if key in values:
                raise self.error(f"{key[0]}{key[1]} is defined twice")
        values.update(zip(refs, node.outputs, strict=True))

    def literal(self, sha: object, type: Type) -> Literal:
        shape = tuple(d for d in type.shape if isinstance(d, int))
        if not isinstance(sha, str) or not _SHA.fullmatch(sha) or len(shape) != type.rank:
            self.fail("a constant's sha and a type of numbers before this")
        if sha not in self.constants:
            return Literal.named(type.dtype, shape, sha)
        literal = Literal(self.constants[sha])
        if (literal.sha, literal.dtype, literal.shape) != (sha, type.dtype, shape):
            raise self.error(f"constant {sha} is not the data that was given for it")
        return literal

    def operand(self, graph: Graph, values: dict[Key, Value]) -> Value | None:
        if self.kind == "ref":
            known = self.token
            key = self.ref()
            if key[0] == "@" and not key[2]:
                return graph.ops.weight(key[1])
            if key not in values:
                raise self.error(f"{known} is not defined before")
            return values[key]
        if self.maybe("_"):
            return None
        dtype = self.take("name", "an operand")
        if dtype not in NUMPY or dtype in FORMATS:
            self.fail("an operand")
        self.expect("(")
        data = self.attribute()
        self.expect(")")
        try:
            with np.errstate(over="raise"):
                return graph.ops.constant(np.array(data, NUMPY[dtype]))
        except (ValueError, TypeError, ArithmeticError) as e:
            self.fail(f"a constant ({e})")


def parse(text: str, constants: Mapping[str, np.ndarray] | None = None) -> Module:
    """Read a module. `constants` are the arrays of the large constants by sha, as `Module.constants` gives them.

    Raises TextError, with the line.
    """
    parser = _Parser(text, constants or {})
    try:
        return parser.module()
    except (InferError, SignatureError, RecursionError) as e:
        raise parser.error(str(e)) from None


def parse_type(text: str) -> Type:
    """Read a type. Raises TextError."""
    return _Parser(text, {}).type()
