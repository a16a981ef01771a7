"""Random modules for hypothesis: any op, role and fact, symbolic dimensions, odd names, every kind of constant."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from burnish.ir import Facts, Graph, InferError, Module, Origin, Type, Value, WeightEntry
from burnish.ir import signature as sig
from burnish.ir.builder import Ops
from burnish.ir.dims import Dim, Sym
from burnish.ir.guards import AllTrue, AtMost, Equal
from burnish.ir.types import NUMPY

NAMES = st.one_of(
    st.sampled_from(
        [
            *("x", "0", "0.3", "model.layers.3.q_proj.weight", "onnx::MatMul_12", "/h.0/attn/MatMul", "-1", "%x", "@1"),
            *("graph", "weights", "guard", "inf", "return", "scope", "by", "f32", "_", "true", "module", "constant"),
            *('a "b" \\', "#", "é ∀", "a\nb", "", "\u2028", "{", "x:"),
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
SCOPES = st.sampled_from(
    ["", "model", "model.layers[3].mlp.experts.5", "model.layers[12]", "h[0]", "[3]", "a[x]", "a[01]", 'odd "scope"']
)
FLOATS = st.one_of(st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 1e-5, 5e-324, 1e22]), st.floats())
SYMBOLS = [Sym(n) for n in ("B", "S", "true", "nan")]
DIMS: st.SearchStrategy[Dim] = st.one_of(
    st.integers(0, 4), st.sampled_from(SYMBOLS), st.sampled_from([SYMBOLS[1] * 2 + 1, (SYMBOLS[0] + 3) // 2])
)
SHAPES = st.lists(DIMS, max_size=3).map(tuple)
TYPES = st.one_of(
    st.builds(Type, st.sampled_from(sorted(NUMPY)), SHAPES),
    st.builds(Type, st.sampled_from(["f32", "bf16"]), st.sampled_from([(4,), (SYMBOLS[0], 4), (3, 4), (4, 4)])),
)
WEIGHT_TYPES = st.one_of(
    TYPES, st.builds(Type, st.sampled_from(["q4_0", "q8_0"]), st.just((4, 64)), st.sampled_from(["", "planes"]))
)
ORIGINS = st.builds(Origin, SCOPES, st.lists(NAMES, max_size=2).map(tuple), st.lists(NAMES, max_size=2).map(tuple))
ATTRIBUTES = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**65), 2**65), FLOATS, NAMES, st.none(), DIMS),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)
FACTS = st.builds(
    Facts,
    architecture=NAMES,
    task=st.sampled_from(["", *sig.TASKS]),
    context=st.none() | st.integers(0, 2**65),
    eos=st.lists(st.integers(-1, 2**65), max_size=2).map(tuple),
    decoder_start=st.none() | st.integers(0, 9),
    labels=st.lists(NAMES, max_size=2).map(tuple),
    passes=st.lists(NAMES, max_size=2).map(tuple),
)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Of any element type: a scalar, a few elements, none, or too many to be written inline."""
    dtype = NUMPY[draw(st.sampled_from(sorted(NUMPY)))]
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,), (2, 0), (9,), (3, 4)]))
    data = np.frombuffer(draw(st.binary(min_size=96, max_size=96)), "u1")[: math.prod(shape) * dtype.itemsize]
    return data.view(dtype).reshape(shape) if dtype.kind != "b" else (data & 1).astype(bool).reshape(shape)


STEPS: list[Callable[[st.DrawFn, Any, list[Value]], Any]] = [
    lambda draw, op, v: op.add(v[0], v[1]),
    lambda draw, op, v: op.mul(v[0], v[0]),
    lambda draw, op, v: op.add(v[0], draw(st.sampled_from([0, 1, 2, 0.5]))),
    lambda draw, op, v: op.fma(v[0], v[0], v[1]),
    lambda draw, op, v: op.less(v[0], v[1]),
    lambda draw, op, v: op.where(op.less(v[0], v[0]), v[0], v[1]),
    lambda draw, op, v: op.silu(v[0]),
    lambda draw, op, v: op.gelu(v[0], approximate=draw(st.sampled_from(["none", "tanh"]))),
    lambda draw, op, v: op.cast(v[0], to=draw(st.sampled_from(sorted(NUMPY)))),
    lambda draw, op, v: op.reshape(v[0], shape=(-1,)),
    lambda draw, op, v: op.reshape(v[0], shape=(1, *v[0].shape)),
    lambda draw, op, v: op.transpose(v[0], perm=tuple(draw(st.permutations(range(len(v[0].shape)))))),
    lambda draw, op, v: op.unsqueeze(v[0], axes=(0,)),
    lambda draw, op, v: op.concat(v[0], v[0], v[1], axis=-1),
    lambda draw, op, v: op.split(v[0], axis=0, sizes=(1, v[0].shape[0] - 1)),
    lambda draw, op, v: op.slice(v[0], axis=-1, start=draw(st.integers(0, 2)), stop=v[0].shape[-1]),
    lambda draw, op, v: op.stack(v[0], v[0]),
    lambda draw, op, v: op.gather(v[0], v[1], axis=0),
    lambda draw, op, v: op.softmax(v[0], axis=draw(st.sampled_from([-1, 0]))),
    lambda draw, op, v: op.reduce_sum(v[0], axes=(0,), keepdims=draw(st.booleans())),
    lambda draw, op, v: op.rms_norm(v[0], v[1], eps=draw(FLOATS)),
    lambda draw, op, v: op.layer_norm(v[0], v[1], None, eps=draw(FLOATS)),
    lambda draw, op, v: op.linear(v[0], v[1], to=draw(st.sampled_from(["", "bf16"]))),
    lambda draw, op, v: op.embedding(v[0], v[1]),
    lambda draw, op, v: op.dequantize(v[0]),
    lambda draw, op, v: op.relayout(v[0], layout="planes"),
    lambda draw, op, v: op.quantize(v[0], format="int8"),
    lambda draw, op, v: op.iota(size=draw(DIMS)),
    lambda draw, op, v: op.positions(v[0]),
    lambda draw, op, v: op.constant(draw(arrays())),
    lambda draw, op, v: op.if_(
        op.constant(True, "bool"), v[0], bodies=[body(draw, op.graph.module, v[:1]) for _ in "ab"]
    ),
    lambda draw, op, v: op.repeat(
        v[0], v[1], count=2, carries=1, shared=1, states=0, bodies=[body(draw, op.graph.module, v[:2])]
    ),
]


def body(draw: st.DrawFn, module: Module, operands: list[Value]) -> Graph:
    """A body that takes those operands and returns a value of the first one's type."""
    graph = module.body(draw(NAMES))
    inputs = [graph.input(f"{draw(NAMES)}{i}", v.type) for i, v in enumerate(operands)]
    grow(draw, graph, inputs, 1)
    same = [o for node in graph for o in node.outputs if o.type == inputs[0].type]
    graph.set_outputs({draw(NAMES): draw(st.sampled_from([inputs[0], *same]))})
    return graph


def grow(draw: st.DrawFn, graph: Graph, values: list[Value], steps: int) -> None:
    """Add nodes to the graph; `values` gets their results. An op that does not accept what was drawn is left out."""
    for _ in range(steps):
        op = Ops(graph, draw(ORIGINS)) if draw(st.booleans()) else graph.ops
        step = draw(st.sampled_from(STEPS))
        try:
            made = step(draw, op, [draw(st.sampled_from(values)) for _ in range(2)])
        except (InferError, IndexError):
            continue
        values += made if isinstance(made, tuple) else [made]


@st.composite
def with_roles(draw: st.DrawFn, module: Module) -> list[tuple[Type, sig.Role]]:
    """Types of inputs, and roles that they fit: tokens and what goes with them, states, what other graphs have."""
    batch, length = draw(DIMS), draw(DIMS)
    found: list[tuple[Type, sig.Role]] = []
    if draw(st.booleans()):
        tokens, counts = Type(draw(st.sampled_from(["i32", "i64"])), (batch, length)), Type("i32", (batch,))
        types = {sig.COUNT: counts, sig.PAST: counts, sig.MASK: tokens, sig.POSITIONS: tokens, sig.TOKEN_TYPES: tokens}
        types[sig.Length(9, each=draw(st.booleans()))] = counts
        more = draw(st.lists(st.sampled_from(list(types)), unique=True, max_size=2))
        found += [(tokens, sig.TOKENS), *((types[role], role) for role in more)]
    states = [sig.Rows(batch=0, axis=1), sig.Ring(batch=2, axis=0, most=7), sig.Carry(batch=1)]
    found += [(Type("f32", (batch, length, 2)), s) for s in draw(st.lists(st.sampled_from(states), max_size=2))]
    values = {sig.Linked(n, v.name): v for n, g in module.graphs.items() for v in g.inputs}
    values |= {sig.Linked(n, k): v for n, g in module.graphs.items() for k, v in g.outputs.items()}
    links = draw(st.lists(st.sampled_from(list(values)), unique=True, max_size=2)) if values else []
    return found + [(values[link].type, link) for link in links]


@st.composite
def modules(draw: st.DrawFn, steps: int = 10) -> Module:
    """A module that verifies."""
    module = Module(facts=draw(FACTS))
    entries = st.builds(
        WeightEntry, WEIGHT_TYPES, st.builds(Origin, st.just(""), st.lists(NAMES, max_size=2).map(tuple))
    )
    module.weights = draw(st.dictionaries(NAMES, entries, max_size=3))
    if draw(st.booleans()):
        guard = module.body(draw(NAMES))
        guard.set_outputs({"all": guard.ops.less_or_equal(guard.ops.iota(size=draw(DIMS)), 7)})
        module.guards.append(AllTrue(draw(NAMES), guard))
    module.guards += draw(st.lists(st.builds(draw(st.sampled_from([AtMost, Equal])), DIMS, DIMS), max_size=2))
    for name in draw(st.lists(NAMES, min_size=1, max_size=2, unique=True)):
        graph = module.graph(name)
        wanted = [(draw(TYPES), None) for _ in range(draw(st.integers(1, 3)))] + draw(with_roles(module))
        names = draw(st.lists(NAMES, min_size=len(wanted), max_size=len(wanted), unique=True))
        values = [graph.input(n, type, role) for n, (type, role) in zip(names, wanted, strict=True)]
        values += [graph.ops.weight(n) for n in module.weights]
        grow(draw, graph, values, draw(st.integers(0, steps)))
        outputs = draw(st.dictionaries(NAMES, st.sampled_from(values), max_size=3))
        scores = st.sampled_from([None, sig.LOGITS, sig.HIDDEN, sig.EMBEDDING])
        roles = {k: role for k, v in outputs.items() if v.type.is_float and (role := draw(scores)) is not None}
        states = {v.name: v for v in graph.states.values()}
        new = {k: draw(st.sampled_from([o for o in values if o.type == v.type])) for k, v in states.items()}
        graph.set_outputs(outputs | new, roles | {k: v.role for k, v in states.items()})
    module.normalize()
    return module
