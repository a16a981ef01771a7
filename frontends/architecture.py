"""What an architecture is: the plain forward of a model family, written down once.

    class Llama(Architecture):
        names = ("LlamaForCausalLM",)
        def forward(self, op: Layers, ids: Value) -> Value: ...

A method named after a graph (`forward`, or `encoder` and `decoder`) builds it; its parameters are the graph's inputs,
whose types and roles `inputs` says.
No cache, no mask, no phase, no quantization: passes add those. Every parameter is asked for with its shape, so that a
checkpoint is held against the config tensor by tensor, and `parameters` knows them all without a checkpoint.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from burnish.frontends.config import Config, LoadError, shown
from burnish.frontends.pooling import Pooling
from burnish.ir.builder import Ops
from burnish.ir.dims import Dim, Sym
from burnish.ir.graph import Graph, Value
from burnish.ir.module import Module, WeightEntry
from burnish.ir.ops.attention import RelativeBias
from burnish.ir.ops.linear import Embedding, Linear
from burnish.ir.ops.normalization import LayerNorm, RmsNorm
from burnish.ir.registry import Registry
from burnish.ir.signature import COUNT, EMBEDDING, HIDDEN, LOGITS, TOKENS, Facts, Plain, Role
from burnish.ir.types import InferError, Type
from burnish.ir.weights import WeightSource

__all__ = ["ARCHITECTURES", "Architecture", "Config", "Layers", "LoadError", "build_module", "parameters"]

B, S, T = Sym("B"), Sym("S"), Sym("T")  # sequences, tokens, tokens of an encoder that a decoder attends to

#: what older versions of transformers stored beside the parameters; it follows from the config
BUFFERS = ("position_ids", "rotary_emb.inv_freq")
#: old names of parameters, by how they end
OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


class Architecture:
    """Base of all architectures, one file each in `frontends/architectures/`, registered by being defined.

    `names` are the values of `architectures` in a `config.json`. Tensors are named as in the whole model.
    """

    names: ClassVar[tuple[str, ...]] = ()
    graphs: ClassVar[tuple[str, ...]] = ("forward",)
    #: what the one output of each graph is for, and called
    outputs: ClassVar[Mapping[str, Plain]] = {"forward": LOGITS, "encoder": HIDDEN, "decoder": LOGITS}
    #: what the model is for: see `burnish.ir.signature.TASKS`
    task: ClassVar[str] = "text-generation"
    #: what the names of the base model's tensors begin with; a base model that was saved alone lacks it
    base: ClassVar[str] = ""
    #: fragments of the names of tensors that a checkpoint may hold and no graph reads
    unused: ClassVar[tuple[str, ...]] = ()
    #: fields of the config that a family has when its file does not mention them (null is mentioned)
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, replace: bool = False) -> None:
        for name in cls.__dict__.get("names", ()):
            ARCHITECTURES.add(name, cls, replace)

    def __init__(self, config: Config) -> None:
        self.config = Config({**self.defaults, **config.values}, config.where)

    def facts(self) -> dict[str, Any]:
        """What else is known of the model, `context` and the like: see `burnish.ir.signature.Facts`."""
        return {}

    def tied(self) -> Mapping[str, str]:
        """For a tensor that need not be stored, the one that stands in for it."""
        return {}

    def inputs(self, graph: str) -> Mapping[str, tuple[Type, Role]]:
        """The types and roles of a graph's inputs, by the names of its method's parameters."""
        return {"ids": (Type("i32", (B, S)), TOKENS), COUNT.name: (Type("i32", (B,)), COUNT)}


ARCHITECTURES: Registry[type[Architecture]] = Registry("architecture")


class _Checkpoint:
    """The tensors that are stored, against those that an architecture asks for."""

    def __init__(self, stored: Mapping[str, Type], model: Architecture) -> None:
        self.stored, self.model, self.tied = stored, model, model.tied()
        self.prefixed = not stored or any(n.startswith(f"{model.base}.") for n in stored)
        self.asked: dict[str, Type] = {}
        self.wrong: list[str] = []

    def find(self, name: str, shape: tuple[Dim, ...]) -> tuple[str, Type]:
        """The stored name and type of a parameter. One that is missing or wrong is noted, and taken as asked for."""
        at = next((n for n in self._spellings(name) if n in self.stored), None)
        if at is None:
            name = self.tied.get(name, name)
            at = name if self.prefixed else self._without_base(name)
        stored, wanted = self.stored.get(at), Type("f32", shape)
        if at not in self.asked and stored is not None and not (stored.shape == shape and stored.is_float):
            self.wrong.append(f"{at!r} is {stored}, but must be {wanted}, or of another float type")
            stored = None
        return at, self.asked.setdefault(at, stored or wanted)

    def _spellings(self, name: str) -> Iterator[str]:
        for n in filter(None, (name, self.tied.get(name))):
            for m in (n, self._without_base(n)):
                yield m
                yield from (m.removesuffix(new) + old for new, old in OLD_NAMES.items() if m.endswith(new))

    def _without_base(self, name: str) -> str:
        return name.removeprefix(f"{self.model.base}.")

    def complaints(self) -> list[str]:
        """What is wrong, each tensor named: of another shape, missing, or read by nothing."""
        missing = [n for n in self.asked if n not in self.stored]
        spare = {m for pair in self.tied.items() for n in pair for m in self._spellings(n)}
        ignored = (*BUFFERS, *self.model.unused)
        extra = [n for n in self.stored if n not in self.asked and n not in spare and not any(u in n for u in ignored)]
        found = [_listed("tensors of another shape or type than the config says", self.wrong)] if self.wrong else []
        if missing:
            found.append(_listed("missing tensors", _with_nearest(missing, extra or self.stored)))
        if extra:
            found.append(_listed("tensors that nothing reads", _with_nearest(extra, missing or self.asked)))
        return found


def _listed(what: str, items: Iterable[str], most: int = 50) -> str:
    items = list(items)
    return f"{what}: {', '.join(items[:most])}" + (f" and {len(items) - most} more" if len(items) > most else "")


def _with_nearest(names: list[str], known: Iterable[str]) -> list[str]:
    """The names, those that are shown with the nearest of `known`; where a file has thousands, some are looked at."""
    near: list[str] = [n for n in known if len(n) < 200][:500]
    texts = []
    for i, name in enumerate(names):
        close = difflib.get_close_matches(name, near, n=1, cutoff=0.5) if i < 50 and len(name) < 200 else []
        texts.append(shown(name, 200) + (f" (nearest: {close[0]!r})" if close else ""))
    return texts


class Layers(Ops):
    """Ops, and layers whose parameters are a checkpoint's, found by module path: `name` under the scopes around it."""

    def __init__(self, graph: Graph, checkpoint: _Checkpoint) -> None:
        super().__init__(graph)
        self.checkpoint = checkpoint

    def parameter(self, name: str, *shape: Dim) -> Value:
        """The leaf of a stored tensor, which must have this shape."""
        at, type = self.checkpoint.find(self.path(name), shape)
        self.graph.module.weights[at] = WeightEntry(type)
        return self.weight(at)

    def linear(self, name: str, x: Value, out: Dim, bias: bool = False) -> Value:
        """x @ weight[out, K].T, with bias[out] if there is one."""
        with self.scope(name):
            w = self.parameter("weight", out, x.shape[-1])
            return self.emit(Linear(), [x, w, self.parameter("bias", out) if bias else None])

    def embedding(self, name: str, ids: Value, rows: int, width: int) -> Value:
        """Rows of weight[rows, width], in f32: what the products of a checkpoint in bf16 compute with."""
        with self.scope(name):
            return self.emit(Embedding(to="f32"), [ids, self.parameter("weight", rows, width)])

    def rms_norm(self, name: str, x: Value, eps: float, offset: float = 0.0) -> Value:
        """Root mean square norm with a weight, which counts as offset + weight."""
        with self.scope(name):
            return self.emit(RmsNorm(eps=eps, offset=offset), [x, self.parameter("weight", x.shape[-1])])

    def layer_norm(self, name: str, x: Value, eps: float, bias: bool = True) -> Value:
        """Layer norm with a weight, and a bias if there is one."""
        with self.scope(name):
            w, b = self.parameter("weight", x.shape[-1]), self.parameter("bias", x.shape[-1]) if bias else None
            return self.emit(LayerNorm(eps=eps), [x, w, b])

    def relative_bias(self, name: str, buckets: int, heads: int, **attributes: Any) -> Value:
        """T5's bias by distance, from a table [buckets, heads]."""
        with self.scope(name):
            return self.emit(RelativeBias(**attributes), [self.parameter("weight", buckets, heads)])


def build_module(
    name: str,
    config: Config,
    weights: Mapping[str, Type],
    source: WeightSource | None = None,
    pooling: Pooling | None = None,
) -> Module:
    """The module of a checkpoint: the forward of the architecture called `name` over its tensors.

    `pooling` turns an encoder's `hidden` into an `embedding` too. Raises LoadError, naming every tensor that is
    missing, of the wrong shape, or read by nothing.
    """
    module, checkpoint = _build(find_architecture(name, config), config, weights, pooling)
    if complaints := checkpoint.complaints():
        raise LoadError(f"{config.where}: the checkpoint does not fit {name}: {'; '.join(complaints)}")
    module.facts = replace(module.facts, architecture=name)
    module.source = source
    return module


def parameters(architecture: type[Architecture], config: Config) -> dict[str, Type]:
    """The tensors that a checkpoint must hold, by name, in f32. Raises LoadError for a config that is not sound."""
    return _build(architecture, config, {})[1].asked


def find_architecture(name: str, config: Config) -> type[Architecture]:
    """The architecture of that name. Raises LoadError, listing those that there are."""
    cls = ARCHITECTURES.get(name)
    if cls is None:
        near = ARCHITECTURES.nearest(name)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        known = f"supported: {', '.join(sorted(ARCHITECTURES))}, and what a --plugin defines"
        raise LoadError(f"{config.where}: architecture {shown(name)} is not supported{hint} ({known})")
    return cls


def _build(
    architecture: type[Architecture], config: Config, weights: Mapping[str, Type], pooling: Pooling | None = None
) -> tuple[Module, _Checkpoint]:
    module = Module()
    try:
        model = architecture(config)
        module.facts = Facts(task=model.task, **model.facts())
        checkpoint = _Checkpoint(weights, model)
        for name in architecture.graphs:
            _build_graph(module.graph(name), model, checkpoint, pooling)
    except InferError as e:
        raise LoadError(f"{config.where}: {architecture.__name__} cannot be built from this config: {e}") from None
    module.normalize()
    return module, checkpoint


def _build_graph(graph: Graph, model: Architecture, checkpoint: _Checkpoint, pooling: Pooling | None) -> None:
    method, types = getattr(model, graph.name), model.inputs(graph.name)
    inputs = [graph.input(n, *types[n]) for n in list(inspect.signature(method).parameters)[1:]]
    op = graph.ops = Layers(graph, checkpoint)  # `a + b` takes part in its scopes
    outputs = {model.outputs[graph.name]: method(op, *inputs)}
    count = graph.input_for(COUNT)
    if pooling is not None and HIDDEN in outputs and count is not None:
        outputs[EMBEDDING] = pooling.build(op, outputs[HIDDEN], count)
    graph.set_outputs({role.name: v for role, v in outputs.items()}, {role.name: role for role in outputs})
