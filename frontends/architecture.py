"""What an architecture is: the plain forward of a model family, written down once.

    class Llama(Decoder):
        names = ("Llama",)

A method named after a graph (`forward`, or `encoder` and `decoder`) builds it; its parameters are the graph's inputs,
whose types and roles `inputs` says. It returns the hidden states, on which a head is put (`frontends.heads`): a
`config.json` names both, `LlamaForCausalLM`.
No cache, no mask, no phase, no quantization: passes add those. Every parameter is asked for with its shape, so that a
checkpoint is held against the config tensor by tensor, and `parameters` knows them all without a checkpoint.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, ClassVar

from burnish.frontends.config import Config, Keys, LoadError, shown
from burnish.frontends.heads import HEADS, Head
from burnish.frontends.lookup import Lookup
from burnish.frontends.rotary import Rotation
from burnish.frontends.sentence import Sentence
from burnish.frontends.stored import Conventions, Spelling, Tensors
from burnish.frontends.unsupported import kind_of
from burnish.ir.builder import Ops
from burnish.ir.dims import Dim, Sym
from burnish.ir.graph import Graph, Value
from burnish.ir.guards import assume_at_most, recording
from burnish.ir.module import Module, WeightEntry
from burnish.ir.ops.attention import RelativeBias
from burnish.ir.ops.experts import ExpertLinear
from burnish.ir.ops.linear import Embedding, Linear
from burnish.ir.ops.normalization import LayerNorm, RmsNorm
from burnish.ir.origin import Origin
from burnish.ir.registry import Registry
from burnish.ir.signature import COUNT, EMBEDDING, HIDDEN, TOKEN_TYPES, TOKENS, Facts, Length, Role
from burnish.ir.types import InferError, Type
from burnish.ir.weights import StackedWeights

__all__ = [
    "ARCHITECTURES",
    "GGUF_ARCHITECTURES",
    "Architecture",
    "B",
    "Layers",
    "S",
    "T",
    "build_module",
    "find_architecture",
    "parameters",
    "plain",
    "usual_classes",
]

B, S, T = Sym("B"), Sym("S"), Sym("T")  # sequences, tokens, tokens of an encoder that a decoder attends to


class Architecture:
    """Base of all architectures, one file each in `frontends/architectures/`, registered by being defined.

    `names` are what the value of `architectures` in a `config.json` begins with, `Llama` in `LlamaForCausalLM`; letters
    that are large and underscores do not matter, so that a `model_type` is one too.
    """

    names: ClassVar[tuple[str, ...]] = ()
    #: the head that the family is mostly found with: a name in `HEADS`
    head: ClassVar[str] = "ForCausalLM"
    #: heads that the family means by the name of another one
    head_names: ClassVar[Mapping[str, str]] = {}
    graphs: ClassVar[tuple[str, ...]] = ("forward",)
    #: the canonical path of the base model, without the head; one that was saved alone lacks it
    base: ClassVar[str] = ""
    #: fragments of the names of tensors that a checkpoint may hold and no graph reads
    unused: tuple[str, ...] = ()
    #: fields of the config that a family has when its file does not mention them (null is mentioned)
    defaults: ClassVar[Mapping[str, Any]] = {}
    #: the family's names of fields, by those that are asked for
    keys: ClassVar[Keys] = {}
    #: fields that say nothing of what the family computes, beside those of its bases and `frontends.config.INERT`
    inert: ClassVar[tuple[str, ...]] = ()
    #: fields that have one value in the whole family, beside those of its bases and `frontends.config.FIXED`
    fixed: ClassVar[Mapping[str, Any]] = {}
    #: what the family's checkpoints call the modules of canonical paths: whole parts of a path are replaced
    spelling: Spelling = {}
    #: the same for those that transformers writes as it has them in memory, where that is not what its files say
    in_memory: Spelling = {}
    #: `general.architecture` of a GGUF file, and what its numbers mean otherwise than in a checkpoint
    gguf: ClassVar[Mapping[str, Conventions]] = {}

    def __init_subclass__(cls, replace: bool = False) -> None:
        for name in cls.__dict__.get("names", ()):
            ARCHITECTURES.add(name, cls, replace)
        for name in cls.__dict__.get("gguf", ()):
            GGUF_ARCHITECTURES.add(name, cls, replace)

    def __init__(self, config: Config) -> None:
        self.config = config.of_family(self.keys, self.defaults)

    def facts(self) -> dict[str, Any]:
        """What else is known of the model, `context` and the like: see `burnish.ir.signature.Facts`."""
        return {}

    def tied(self) -> Sequence[Sequence[str]]:
        """Sets of names that mean one tensor: whichever is stored stands in for the others, the first one first."""
        return ()

    def inputs(self, graph: str) -> Mapping[str, tuple[Type, Role]]:
        """The types and roles of a graph's inputs, by the names of its method's parameters."""
        return {
            "ids": (Type("i32", (B, S)), TOKENS),
            TOKEN_TYPES.name: (Type("i32", (B, S)), TOKEN_TYPES),
            COUNT.name: (Type("i32", (B,)), COUNT),
        }

    def logits(self, op: Layers, x: Value) -> Value:
        """Scores of the words that may follow each token, from the hidden states [B, S, H]."""
        return op.linear("lm_head", x, self.config.integer("vocab_size"))


ARCHITECTURES: Registry[type[Architecture]] = Registry("architecture")
#: by `general.architecture` of a GGUF file
GGUF_ARCHITECTURES: Registry[type[Architecture]] = Registry("GGUF architecture")


class Layers(Ops):
    """Ops, and layers whose parameters are a source's, found by module path: `name` under the scopes around it."""

    def __init__(self, graph: Graph, lookup: Lookup) -> None:
        super().__init__(graph)
        self._lookup = lookup

    def parameter(self, name: str, *shape: Dim) -> Value:
        """The parameter of that name, which must have this shape, as its source stores it."""
        place = self._lookup.find(self.path(name), shape)
        for container in self._lookup.tensors.containers:
            rows = replace(place.rows, transposed=False) if place.rows and container.by_outputs else place.rows
            wanted = rows.shape(shape) if rows else shape
            if (value := container.parameter(self, place.stored, wanted)) is not None:
                if value.shape != wanted:
                    whole = Type("f32", wanted)
                    raise LoadError(f"{place.stored!r} is {value.type}, but must have the shape of {whole}")
                break
        else:
            rows = place.rows
            value = self._leaf_of(place.stored, self._lookup.leaf(place.stored, place.shape), place.canonical)
        return rows.take(self, value) if rows else value

    def parameters(self, name: str, count: int, *shape: Dim) -> Value:
        """The parameter [count, *shape] of that path, `experts.w`, or a stack of `experts.0.w`, `experts.1.w`, ….

        A stack is one leaf where its parts are tensors of one plain type: models have ten thousands of experts.
        """
        stack, first = self._lookup.find(self.path(name), (count, *shape)), name.partition(".")
        if stack.rows is not None or stack.stored in self._lookup.types:
            return self.parameter(name, count, *shape)
        names = [f"{first[0]}.{i}.{first[2]}" for i in range(count)]
        places = [self._lookup.find(self.path(n), shape) for n in names]
        if not self._lookup.tensors.containers and not any(p.rows for p in places):
            types = {self._lookup.leaf(p.stored, p.shape) for p in places}
            if len(types) == 1 and (one := types.pop()).format is None:
                self._lookup.stacks[stack.stored] = tuple(p.stored for p in places)
                return self._leaf_of(stack.stored, one.with_shape((count, *shape)), stack.canonical)
        return self.stack(*(self.parameter(n, *shape) for n in names))

    def optional(self, name: str, *shape: Dim) -> Value | None:
        """The parameter of that name; None where its source has none."""
        place = self._lookup.find(self.path(name), shape)
        return self.parameter(name, *shape) if place.stored in self._lookup.types else None

    def stored(self, name: str) -> Value | None:
        """The leaf of a tensor just as it is stored, for containers; None where there is none of that name."""
        type = self._lookup.types.get(name)
        if type is None:
            return None
        self._lookup.asked[name] = type
        return self._leaf_of(name, type, self.path(name.rpartition(".")[2]))

    def data(self, name: str, *shape: Dim) -> Any:
        """The numbers of a stored tensor of this shape, for containers that must look at them.

        None where there is none such, or no source.
        """
        source, type = self._lookup.tensors.source, self._lookup.types.get(name)
        return source.read(name) if source is not None and type is not None and type.shape == shape else None

    def _leaf_of(self, at: str, type: Type, canonical: str) -> Value:
        names = self._lookup.canonical.setdefault(at, [])
        if canonical not in names:
            names.append(canonical)
        origin = Origin() if names == [at] else Origin("", tuple(names))
        self.graph.module.weights[at] = WeightEntry(type, origin)
        return self.weight(at)

    def token_count(self) -> Value:
        """How many tokens of each sequence are real, i32[B]: an input of the graph, added where there is none yet."""
        return self.graph.input_for(COUNT) or self.graph.input(COUNT.name, Type("i32", (B,)), COUNT)

    def linear(self, name: str, x: Value, out: Dim, bias: bool = False) -> Value:
        """x @ weight[out, K].T, with bias[out] if there is one."""
        with self.scope(name):
            w = self.parameter("weight", out, x.shape[-1])
            return self.emit(Linear(), [x, w, self.parameter("bias", out) if bias else None])

    def experts(self, name: str, x: Value, chosen: Value, experts: int, out: Dim, bias: bool = False) -> Value:
        """x @ w[chosen].T + b[chosen]: of matrices w[experts, out, K], stored as one or each by itself.

        Of one, the path is experts.name.weight, of others experts.0.name.weight, experts.1.name.weight, …; b is one.
        """
        w = self.parameters(f"experts.{name}.weight", experts, out, x.shape[-1])
        with self.scope(f"experts.{name}"):
            b = self.parameter("bias", experts, out) if bias else None
            return self.emit(ExpertLinear(), [x, w, chosen, b])

    def embedding(self, name: str, ids: Value, rows: int, width: int) -> Value:
        """Rows of weight[rows, width], in f32: what the products of a checkpoint in bf16 compute with."""
        with self.scope(name):
            return self.emit(Embedding(to="f32"), [ids, self.parameter("weight", rows, width)])

    def placed(self, name: str, positions: Value, rows: int, width: int, first: int = 0) -> Value:
        """Rows of a learned table, [B, S] -> f32[B, S, width], that of position 0 being `first`.

        The module is one for as many tokens as are left: others have no row.
        """
        with recording(self.graph.module.guards):
            assume_at_most(positions.shape[1], rows - first, name)
        return self.embedding(name, positions + first if first else positions, rows, width)

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
        """T5's bias by distance, from a table [buckets, heads], in f32."""
        with self.scope(name):
            table = self.cast(self.parameter("weight", buckets, heads), to="f32")
            return self.emit(RelativeBias(**attributes), [table])

    def text_length(self, limit: int, each: bool) -> Value:
        """How many tokens each text has, i32[B]: an input of the graph, added where there is none yet.

        `limit` and `each` say which lengths make a difference: see `burnish.ir.signature.Length`.
        """
        role = Length(limit, each)
        return self.graph.input_for(role) or self.graph.input(self.graph.free_name("length"), Type("i32", (B,)), role)

    def rotary(self, x: Value, positions: Value, rotation: Rotation, interleaved: bool = False) -> Value:
        """Rotary positions in pairs (j, j + R/2) or, interleaved, (2j, 2j + 1), as the source has them."""
        how, inv_freq = self._lookup.tensors.conventions, rotation.frequencies(self)
        if (divisors := self.stored(how.rope_divisors)) is not None:
            inv_freq = self.div(inv_freq, divisors)
        pairs = interleaved or how.interleaved_rope
        return self.rope(x, positions, inv_freq, interleaved=pairs, scale=rotation.scale)


def build_module(name: str, config: Config, tensors: Tensors, sentence: Sentence | None = None) -> Module:
    """The module of a model: the forward of the architecture and head called `name` over the tensors of a source.

    `sentence` turns a base model's `hidden` into an `embedding` too. Raises LoadError, naming every tensor that is
    missing, of the wrong shape, or read by nothing, and every field of the config that nothing accounts for.
    """
    architecture, head = find_architecture(name, config)
    module, model, lookup = _build(architecture, head, config, tensors, sentence)
    inert = [i for c in architecture.__mro__ for i in vars(c).get("inert", ())]
    fixed = {k: v for c in reversed(architecture.__mro__) for k, v in vars(c).get("fixed", {}).items()}
    if unread := model.config.unread(inert, fixed):
        named = ", ".join(unread[:20]) + (f" and {len(unread) - 20} more" if len(unread) > 20 else "")
        raise LoadError(
            f"{config.where}: {name} does not know what to make of {named}; "
            "a field without effect on what the model computes can be taken out of the file"
        )
    if complaints := lookup.complaints():
        raise LoadError(f"{config.where}: the checkpoint does not fit {name}: {'; '.join(complaints)}")
    about_text = sentence.facts if sentence is not None else {}
    module.facts = replace(module.facts, architecture=name, left_out=lookup.left_out(), **about_text)
    stacks, source = lookup.stacks, tensors.source
    module.source = StackedWeights(source, stacks) if stacks and source is not None else source
    return module


def parameters(architecture: type[Architecture], config: Config, head: str = "") -> dict[str, Type]:
    """The tensors that a checkpoint must hold, by name, in f32. Raises LoadError for a config that is not sound."""
    return _build(architecture, HEADS[head or architecture.head], config, Tensors({}), None)[2].asked


def find_architecture(name: str, config: Config) -> tuple[type[Architecture], type[Head]]:
    """The architecture and the head that a name is made of. Raises LoadError, listing those that there are."""
    heads = sorted((h for h in HEADS if name.endswith(h)), key=len, reverse=True)
    for head in heads:
        base = plain(name.removesuffix(head))
        for known, cls in ARCHITECTURES.items():
            if plain(known) == base:
                return cls, HEADS[cls.head_names.get(head, head)]
    if kind := next(filter(None, (kind_of(plain(name.removesuffix(h))) for h in (*heads, ""))), None):
        raise LoadError(f"{config.where}: architecture {shown(name)} is not supported: it is {kind}")
    every = [a + cls.head for a, cls in ARCHITECTURES.items()]
    near = ARCHITECTURES.nearest(name, every)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    known = f"supported: {', '.join(sorted(ARCHITECTURES))} with {', '.join(sorted(HEADS))}"
    what = f"architecture {shown(name)} is not supported{hint} ({known}, and what a --plugin defines)"
    raise LoadError(f"{config.where}: {what}")


def plain(name: str) -> str:
    """A class or model type in small letters and without underscores: spellings of one name are the same then."""
    return re.sub(r"[\W_]", "", name).lower()


def usual_classes(config: Config) -> list[str]:
    """The class of a config that names none but its `model_type`: that family with the head that it mostly has."""
    kind = config.get("model_type")
    found = ARCHITECTURES.items() if isinstance(kind, str) else ()
    return [name + cls.head for name, cls in found if plain(name) == plain(str(kind))]


def _build(
    architecture: type[Architecture], head: type[Head], config: Config, tensors: Tensors, sentence: Sentence | None
) -> tuple[Module, Architecture, Lookup]:
    module, made = Module(), head()
    if reason := made.why_not(architecture):
        raise LoadError(f"{config.where}: {reason}")
    try:
        model = architecture(config)
        module.facts = Facts(task=made.task, **{**model.facts(), **made.facts(model)})
        unused = (*model.unused, *made.unused(model))
        lookup = Lookup(tensors, model.base, model.spelling, model.tied(), unused, made.beside, model.in_memory)
        graphs = made.graphs or architecture.graphs
        for name in graphs:
            _build_graph(module.graph(name), model, made if name == graphs[-1] else None, lookup, sentence)
    except InferError as e:
        raise LoadError(f"{config.where}: {architecture.__name__} cannot be built from this config: {e}") from e
    module.normalize()
    return module, model, lookup


def _build_graph(
    graph: Graph, model: Architecture, head: Head | None, lookup: Lookup, sentence: Sentence | None
) -> None:
    method, types = getattr(model, graph.name), model.inputs(graph.name)
    inputs = {n: graph.input(n, *types[n]) for n in list(inspect.signature(method).parameters)[1:]}
    op = graph.ops = Layers(graph, lookup)  # `a + b` takes part in its scopes
    with op.scope(model.base) if model.base else nullcontext():
        x = method(op, *inputs.values())
    if head is None:
        graph.set_outputs({HIDDEN.name: x}, {HIDDEN.name: HIDDEN})
        return
    outputs, roles = head.outputs(op, model, x)
    if sentence is not None:
        outputs |= {EMBEDDING.name: sentence.build(op, x, op.token_count())}
        roles |= {EMBEDDING.name: EMBEDDING}
    graph.set_outputs(outputs, roles)
    for v in [v for v in graph.inputs if not v.uses and v.role != TOKENS]:  # types of tokens, of a family without
        graph.remove_input(v)
