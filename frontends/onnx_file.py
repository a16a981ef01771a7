"""ONNX files: the graph translated node by node, shape arithmetic done away with, names and signature made ours.

Token inputs are i32[B, S] and called as elsewhere (`input_ids` is `ids`); other inputs keep their names, and so do
outputs but those whose role has a name of its own (`onnx_signature.py`). Matrices that were stored for `x @ w` are read
as the linears' weights that they were exported from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from itertools import chain, count
from pathlib import Path
from typing import Any

from burnish.frontends import onnx_shapes  # noqa: F401  # enters its translations
from burnish.frontends.config import LoadError, shown
from burnish.frontends.known import Known
from burnish.frontends.onnx_names import Names, task_of
from burnish.frontends.onnx_ops import DTYPES, TRANSLATIONS, OnnxOps
from burnish.frontends.onnx_proto import read_proto, version_of
from burnish.frontends.onnx_signature import INPUTS, axis_of_rows, earlier_of, is_past, role_of_input, roles_of_outputs
from burnish.frontends.onnx_tensors import Tensor, Turned, read_tensor
from burnish.ir.dims import Dim, DimError, Sym, bind, choices, symbols_of
from burnish.ir.graph import Graph, Value
from burnish.ir.guards import AtMost, Equal, assume_at_most, recording
from burnish.ir.leaves import Weight
from burnish.ir.module import Module, WeightEntry
from burnish.ir.signature import LOGITS, MASK, TOKENS, Earlier, Facts
from burnish.ir.types import InferError, Type
from burnish.ir.weights import WeightsOf, WeightSource

__all__ = ["load_onnx"]

_CONSTANT = 1 << 16  # elements; larger tensors are weights whatever they are for
_RESERVED = ("B", "S", "T", "C")
_FAULTS = (InferError, DimError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, OSError)


def load_onnx(path: Path) -> Module:
    """The module of an `.onnx` file, with one graph, `forward`.

    Two symbols that must be equal become one; a symbol that must be a number becomes that number; where the smaller of
    two must be the one, it is that one. Raises LoadError.
    """
    proto = read_proto(path)
    alike: dict[Sym, Dim] = {}
    bounds: dict[AtMost, None] = {}
    for _ in range(64):
        importer, refused = _Importer(path, proto, alike, list(bounds)), None
        try:
            importer.run()
        except LoadError as e:
            refused = e  # perhaps for want of what was learnt before that node
        except _FAULTS as e:  # a name that is not text, and what else protobuf lets pass
            raise LoadError(f"{path}: is damaged: {shown(e)}") from None
        module = importer.module
        found, further = _equal_symbols(module), _bounds(module) - bounds.keys()
        if not found and not further:
            if refused is not None:
                raise refused
            return module
        alike |= found
        bounds |= dict.fromkeys(sorted(further, key=str))
    raise LoadError(f"{path}: its symbolic dimensions depend on each other in too many ways")


def _equal_symbols(module: Module) -> dict[Sym, Dim]:
    """Plain symbols that were assumed to be the same as another dimension, and that one."""
    found: dict[Sym, Dim] = {}
    for guard in module.guards:
        if isinstance(guard, Equal):
            for symbol, other in ((guard.b, guard.a), (guard.a, guard.b)):
                if isinstance(symbol, Sym) and symbol.is_plain and symbol.text not in symbols_of(other):
                    found.setdefault(symbol, other)
                    break
    return found


def _bounds(module: Module) -> set[AtMost]:
    """What was assumed to be the smaller or the larger of itself and others, and those."""
    found = set()
    for guard in module.guards:
        for d, other in ((guard.a, guard.b), (guard.b, guard.a)) if isinstance(guard, Equal) else ():
            least, most = choices(other, "Min"), choices(other, "Max")
            found |= {AtMost(d, x) for x in least if d in least and x != d}
            found |= {AtMost(x, d) for x in most if d in most and x != d}
    return found


@dataclass
class _Stored:
    """An initializer under the name that its data has in the module."""

    tensor: Tensor
    turned: bool


@dataclass
class _Importer:
    path: Path
    proto: Any
    alike: Mapping[Sym, Dim]  # symbols, and what they are
    bounds: list[AtMost]  # what must hold of them
    module: Module = field(default_factory=Module)
    values: dict[str, Value | Known] = field(default_factory=dict)
    stored: dict[str, _Stored] = field(default_factory=dict)  # by the names in the module
    symbols: dict[str, Dim] = field(default_factory=dict)  # by the names in the file

    def run(self) -> Module:
        proto = self.proto.graph
        self.graph: Graph = self.module.graph("forward")
        self.op = OnnxOps(self.graph, version_of(self.proto))
        known = {s.text: self._renamed(s) for s in self.alike}
        with recording(self.module.guards):
            for g in self.bounds:
                assume_at_most(bind(g.a, known), bind(g.b, known), "sizes that must fit")
        self.names = Names.of(proto)
        self.module.facts = Facts(self.names.architecture, task_of(self.names.architecture))
        where = str(self.path)
        self.tensors = {t.name: read_tensor(t, self.path, where) for t in proto.initializer}
        self.inputs([i for i in proto.input if i.name not in self.tensors])
        sources = self._sources()
        for node, source in zip(proto.node, sources, strict=True):
            self.node(node, source)
        self.outputs()
        self.graph.erase_dead(list(self.graph))
        read = {n.op.tensor for n in self.graph if isinstance(n.op, Weight)}
        self.module.weights = {k: e for k, e in self.module.weights.items() if k in read}
        self.module.source = WeightsOf({k: self._source(k) for k in self.module.weights})
        self.module.normalize()
        return self.module

    def _source(self, name: str) -> WeightSource:
        stored = self.stored[name]
        source = stored.tensor.source(name)
        return Turned(source) if stored.turned else source

    # ------------------------------------------------------------------------------------------------- the signature

    def inputs(self, inputs: list[Any]) -> None:
        """Inputs in order; `ids` says what the symbols of its axes are called."""
        tokens = next((i for i in inputs if INPUTS.get(i.name) == TOKENS), None)
        if tokens is not None:
            for d, name in zip(tokens.type.tensor_type.shape.dim, ("B", "S"), strict=False):
                if d.dim_param:
                    self.symbols.setdefault(d.dim_param, self._renamed(Sym(name)))
        beside = self._dims(tokens) if tokens is not None else ()
        seen = self._seen(inputs, beside) if len(beside) == 2 else ()
        for i in inputs:
            if i.name in self.values:
                raise LoadError(f"{self.path}: has two inputs called {shown(i.name)}")
            dtype = DTYPES.get(i.type.tensor_type.elem_type)
            if dtype is None or not i.type.tensor_type.HasField("shape"):
                what = "must be a tensor of plain numbers and of known rank"
                raise LoadError(f"{self.path}: input {shown(i.name)} {what}")
            named = INPUTS.get(i.name)
            shape = self._dims(i, seen if named == MASK else beside if named is not None else ())
            self.op.at_source("", i.name)
            type = Type("i32" if dtype == "i64" else dtype, shape)
            role = role_of_input(i.name, shape, beside)
            value: Any = self.graph.input("ids" if role == TOKENS else i.name, type, role)
            self.values[i.name] = self.op.cast(value, to="i64") if dtype == "i64" else value

    def _seen(self, inputs: list[Any], tokens: tuple[Dim, ...]) -> tuple[Dim | None, ...]:
        """The sizes of a mask: of the tokens, and of what comes in of those before; None for one of its own."""
        others = [i for i in inputs if i.name not in INPUTS]
        for i in sorted(others, key=lambda i: not is_past(i.name)):
            shape = self._dims(i)
            if (axis := axis_of_rows(shape, tokens[0])) is not None:
                return tokens[0], shape[axis] + tokens[1] if is_past(i.name) else None
        return tokens

    def _dims(self, info: Any, beside: Sequence[Dim | None] = ()) -> tuple[Dim, ...]:
        """The sizes of an input. One that lies beside the tokens has theirs, whatever an exporter calls its symbols."""
        own = info.type.tensor_type.shape.dim
        dims: list[Dim] = []
        for axis, d in enumerate(own):
            if d.HasField("dim_value"):
                if not 0 <= d.dim_value < 1 << 48:
                    raise LoadError(f"{self.path}: input {shown(info.name)}: a size of {d.dim_value} is not possible")
                dims.append(d.dim_value)
            elif len(own) == len(beside) and (size := beside[axis]) is not None:
                dims.append(size)
            else:
                dims.append(self._symbol(d.dim_param or f"{info.name}_{axis}"))
        return tuple(dims)

    def _symbol(self, text: str) -> Dim:
        if text not in self.symbols:
            plain = re.sub(r"\W", "_", text, flags=re.ASCII)[:64]
            taken = {str(s) for s in self.symbols.values()}
            if not re.match(r"[A-Za-z]", plain) or plain in (*_RESERVED, *taken):
                plain = f"n{len(self.symbols)}_{plain}"
            self.symbols[text] = self._renamed(Sym(plain))
        return self.symbols[text]

    def _renamed(self, d: Dim) -> Dim:
        """The dimension in terms of symbols that are not another's."""
        for _ in range(len(self.alike) + 1):
            d, before = bind(d, {s.text: other for s, other in self.alike.items()}), d
            if d == before:
                return d
        raise LoadError(f"{self.path}: its symbolic dimensions are made of each other")

    def outputs(self) -> None:
        """Outputs in order, called as elsewhere where it is known what they are for."""
        values: dict[str, Value] = {}
        for info in self.proto.graph.output:
            if info.name not in self.values:
                raise LoadError(f"{self.path}: output {shown(info.name)} is not made by any node")
            value = self.op.lift(self.values[info.name])
            assert value is not None
            values[info.name] = value
        for value, earlier in earlier_of(self.graph, values).items():
            value.role = earlier
        roles = roles_of_outputs(self.graph, values)
        names = {k: str(r) if str(r) not in values else k for k, r in roles.items()}
        self.graph.set_outputs({names.get(k, k): v for k, v in values.items()}, {names[k]: r for k, r in roles.items()})
        facts = self.module.facts
        if not facts.task and LOGITS in roles.values() and any(isinstance(v.role, Earlier) for v in self.graph.inputs):
            self.module.facts = replace(facts, task="text-generation")  # it goes on from what it gave back

    # ----------------------------------------------------------------------------------------------------- the nodes

    def _sources(self) -> list[str]:
        """A name for each node that no other has: its own, else its first result's."""
        nodes = self.proto.graph.node
        count: dict[str, int] = {}
        for n in nodes:
            count[n.name] = count.get(n.name, 0) + 1
        return [n.name if n.name and count[n.name] == 1 else f"{n.op_type}:{next(iter(n.output), '')}" for n in nodes]

    def node(self, node: Any, source: str) -> None:
        """Translate one node."""
        where = f"{self.path}: node {shown(source)} ({node.op_type})"
        scope = self.names.scope(node)
        given = [i for i, name in enumerate(node.input) if name in self.tensors]
        operands: list[Value | Known | None] = []
        for i, name in enumerate(node.input):
            if name in self.tensors:
                self.op.at_source(scope, f"{source}: {name}")
                operands.append(self._initializer(node, i, given))
            elif name and name not in self.values:
                raise LoadError(
                    f"{where}: reads {shown(name)}, which nothing before it makes (the nodes must be in order)"
                )
            else:
                operands.append(self.values[name] if name else None)
        self.op.at_source(scope, source)
        self.op.results = len(node.output)
        try:
            attributes = {a.name: self._attribute(a, where) for a in node.attribute}
            translation = TRANSLATIONS[node.op_type]
            signature(translation).bind(self.op, *operands, **attributes)  # whose message names no function of ours
            results = translation(self.op, *operands, **attributes)
        except LoadError:
            raise
        except _FAULTS as e:
            raise LoadError(f"{where}: {' '.join(str(e).split())[:400]}") from None
        made = results if isinstance(results, tuple) else (results,)
        if len(node.output) > len(made):
            raise LoadError(f"{where}: has {len(node.output)} results, of which {len(made)} are supported")
        for name, value in zip(node.output, made, strict=False):
            if name in self.values or name in self.tensors:
                raise LoadError(f"{where}: makes {shown(name)}, which is there already")
            if name:
                self.values[name] = value

    def _attribute(self, a: Any, where: str) -> Any:
        match a.type:
            case 1:
                return a.f
            case 2:
                return a.i
            case 3:
                return a.s.decode("utf-8")
            case 4:
                return read_tensor(a.t, self.path, where).array()
            case 6:
                return tuple(a.floats)
            case 7:
                return tuple(a.ints)
        raise ValueError(f"attribute {a.name} is of a kind that is not supported")

    def _initializer(self, node: Any, position: int, given: list[int]) -> Value | Known:
        """An initializer as operand: known where it is no parameter, else the weight that the model called so."""
        tensor = self.tensors[node.input[position]]
        large = {i: node.input[i] for i in given if self.tensors[node.input[i]].elements > 8}
        name = self.names.parameter_of(node, position, large) if position in large else None
        if name is None and tensor.elements <= (_CONSTANT if self.names.parameters or not tensor.type.is_float else 8):
            return tensor.array()
        own = self.names.strip(tensor.name)
        # A linear's matrix is stored as x @ w needs it; the parameter is its transpose.
        turned = name not in (None, own) and node.op_type == "MatMul" and tensor.type.rank == 2
        free = chain((name or own, own), (f"{own}.{i}" for i in count(1)))
        weight = self.op.weight(next(n for n in free if self._claim(n, tensor, turned)))
        return self.op.transpose(weight, perm=(1, 0)) if turned else weight

    def _claim(self, name: str, tensor: Tensor, turned: bool) -> bool:
        """Enter a tensor in the table of weights under a name; False where the name is another tensor's."""
        known = self.stored.get(name)
        if known is None:
            shape = tensor.type.sizes[::-1] if turned else tensor.type.sizes
            self.stored[name] = _Stored(tensor, turned)
            self.module.weights[name] = WeightEntry(tensor.type.with_shape(shape))
            return True
        return (known.tensor.name, known.turned) == (tensor.name, turned) or self._equal(known, _Stored(tensor, turned))

    def _equal(self, a: _Stored, b: _Stored) -> bool:
        """Whether two tensors are the same matrix, bit for bit: a tied one is stored once each way."""
        x, y = (s.tensor.array().T if s.turned else s.tensor.array() for s in (a, b))
        return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
