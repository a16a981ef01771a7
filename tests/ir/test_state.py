"""What each op answers in a step of S new tokens: independent of other tokens, with a state, or refused and why."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from burnish.ir import OPS, Graph, InferError, Module, Op, Type, Value
from burnish.ir.dims import Dim, Sym
from burnish.ir.guards import AtMost
from burnish.ir.op import Axes
from burnish.ir.parser import parse_type
from burnish.ir.signature import CAPACITY, COUNT
from burnish.ir.state import Independent, Refused, axes_with, in_steps
from burnish.testing.running import type_of
from tests.ir.oracles import ORACLES, ours

B, S, T = Sym("B"), Sym("S"), Sym("T")
INDEPENDENT = "independent"
LEAVES = ("constant", "weight", "return")  # which nobody asks


class Asked:
    """Steps in which what is asked for is an input that says so."""

    tokens, capacity = "S", CAPACITY
    symbols: ClassVar = {"S": "tokens", "C": "tokens", "B": "sequences"}

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @property
    def past(self) -> Value:
        return self.given("the past")

    @property
    def count(self) -> Value:
        return self.given("the count")

    def given(self, name: str) -> Value:
        known = {v.name: v for v in self.graph.inputs}
        return known.get(name) or self.graph.input(name, Type("i32", (B,)))

    def carries_tokens(self, value: Value) -> bool:
        return bool(axes_with(value.type, self.tokens))

    def rows(self, label: str, new: Value) -> Value:
        return self.graph.input(f"rows of {label}", new.type.with_shape((B, CAPACITY, *new.shape[2:])))

    def before(self, label: str, new: Value, rows: int, exact: bool = False) -> Value:
        name = f"{'exactly ' if exact else ''}{rows} before {label}"
        return self.graph.input(name, new.type.with_shape((B, rows, *new.shape[2:])))

    def carry(self, label: str, type: Type, step: Callable[[Value], Sequence[Value]]) -> Sequence[Value]:
        results = step(self.graph.input(f"carried {label}", type))
        assert results[0].type == type
        return results


def answer(name: str, types: str = "", bodies: Sequence[Graph] = (), **attributes: Any) -> str:
    """What a node of that op answers, its operands being inputs of those types."""
    graph = bodies[0].module.graph("f") if bodies else Module().graph("f")
    inputs: list[Value | None] = []
    for i, text in enumerate(types.split(" | ") if types else []):
        label = OPS[name].operand(i)
        label = f"{label}{i}" if label in (v.name for v in graph.inputs) else label
        role = COUNT if text == "i32[B] is count" else None
        inputs.append(None if text == "_" else graph.input(label, parse_type(text.removesuffix(" is count")), role))
    return said(graph, graph.ops.emit(OPS[name](**attributes), inputs, bodies))


def said(graph: Graph, value: Value) -> str:
    """As insert-state asks: nothing more may be assumed, and what cannot be built is refused."""
    node = value.node
    graph.ops.may_assume = False
    try:
        made: Any = in_steps(graph.ops, node, Asked(graph))
    except InferError as e:
        made = Refused(str(e))
    if isinstance(made, Independent | Refused):
        return INDEPENDENT if isinstance(made, Independent) else f"refused: {made.reason}"
    results = [made] if isinstance(made, Value) else [*made]
    assert [(v.dtype, len(v.shape)) for v in results] == [(o.dtype, len(o.shape)) for o in node.outputs]
    again = results[0].node
    assert again.outputs == tuple(results), "in the order of the results"
    return f"{again.op!r} of {', '.join('_' if v is None else v.name for v in again.inputs)}"


MIXES = "refused: it mixes the tokens of its operand"
AGAINST = "refused: it sets tokens against each other"
COUNTS = "refused: it counts tokens from 0, and does not know how many came before"
PAST = "refused: it has a past already"
QKV = "f32[B, S, 2, 8] | f32[B, S, 2, 8] | f32[B, S, 2, 8]"
CROSS = "f32[B, S, 2, 8] | f32[B, T, 2, 8] | f32[B, T, 2, 8]"
SCAN = "f32[B, S, 8] | f32[B, S, 8] | f32[8, 2] | f32[B, S, 2] | f32[B, S, 2]"


def shaped(*shape: Dim) -> dict[str, Any]:
    return {"shape": shape}


def bias(query: Dim, key: Dim) -> dict[str, Any]:
    return {"query": query, "key": key, "bidirectional": True}


CASES: list[tuple[str, str, dict[str, Any], str]] = [
    # attention and positions
    ("positions", "i32[B, S]", {}, "positions() of ids, the past"),
    ("positions", "i32[B, T]", {}, INDEPENDENT),
    ("positions", "i32[B, S] | i32[B]", {}, PAST),
    ("rope", "f32[B, S, 2, 8] | i32[B, S] | f32[4]", {}, INDEPENDENT),
    ("rope", "f32[B, S, 2, 8] | i32[1, S] | f32[4]", {}, INDEPENDENT),
    ("rope", "f32[B, S, 2, 8] | i32[B, S] | f32[B, 4]", {}, INDEPENDENT),
    ("attention", QKV, {"causal": True}, "of q, rows of k, rows of v, the past"),
    ("attention", f"{QKV} | _ | i32[B] is count", {"causal": True}, "of q, rows of k, rows of v, the past"),
    ("attention", f"{QKV} | _ | i32[B] is count", {"causal": True, "window": 3}, "_, _, 2 before k, 2 before v"),
    ("attention", f"{QKV} | _ | i32[B]", {"causal": True}, "refused: its count is not that of the tokens"),
    ("attention", QKV, {"causal": True, "window": 3}, "of q, k, v, the past, _, _, 2 before k, 2 before v"),
    ("attention", QKV, {"causal": True, "window": 1}, INDEPENDENT),
    ("attention", "f32[B, 1, 2, 8] | f32[B, S, 2, 8] | f32[B, S, 2, 8]", {"causal": True}, "refused: "),
    ("attention", QKV, {}, "refused: it attends to tokens that follow"),
    ("attention", f"{QKV} | i32[B]", {"causal": True}, PAST),
    ("attention", CROSS, {}, INDEPENDENT),
    ("attention", f"{CROSS} | _ | i32[B]", {}, INDEPENDENT),
    ("attention", f"{CROSS} | i32[B]", {}, PAST),
    ("attention", CROSS, {"causal": True}, "of q, k, v, the past"),
    ("relative_bias", "f32[8, 2]", bias(S, S), "(query=S, key=C, bidirectional=true) of table, the past"),
    ("relative_bias", "f32[8, 2]", bias(S, T), "(query=S, key=T, bidirectional=true) of table, the past"),
    ("relative_bias", "f32[8, 2]", bias(T, T), INDEPENDENT),
    ("relative_bias", "f32[8, 2]", bias(T, S), "refused: it has a key for each token, and not a query"),
    ("relative_bias", "f32[8, 2] | i32[B]", bias(S, S), PAST),
    ("alibi", "f32[2]", {"query": S, "key": S}, "alibi(query=S, key=C) of slopes, the past"),
    ("alibi", "f32[2]", {"query": S, "key": 9}, "alibi(query=S, key=9) of slopes, the past"),
    ("alibi", "f32[2]", {"query": 9, "key": 9}, INDEPENDENT),
    ("alibi", "f32[2]", {"query": 9, "key": S}, "refused: it has a key for each token, and not a query"),
    ("alibi", "f32[2] | i32[B]", {"query": S, "key": S}, PAST),
    ("cache_update", "f32[9, 9, 2, 8] | f32[9, S, 2, 8] | i32[9]", {}, f"{MIXES} new, f32[9, S, 2, 8]"),
    ("ring_update", "f32[9, 9, 8] | f32[9, S, 8] | i32[9] | i32[9]", {}, f"{MIXES} new, f32[9, S, 8]"),
    ("last_row", "f32[B, S, 8] | i32[B]", {}, f"{MIXES} x, f32[B, S, 8]"),
    ("last_row", "f32[B, T, 8] | i32[B]", {}, INDEPENDENT),
    # recurrences
    ("causal_conv", "f32[B, S, 8] | f32[8, 4]", {}, "causal_conv() of x, w, _, exactly 3 before conv"),
    ("causal_conv", "f32[B, S, 8] | f32[8, 1] | f32[8]", {}, INDEPENDENT),
    ("causal_conv", "f32[B, T, 8] | f32[8, 4]", {}, INDEPENDENT),
    ("causal_conv", "f32[B, S, 8] | f32[8, 4] | _ | f32[B, 3, 8]", {}, "refused: it has rows before already"),
    ("selective_scan", SCAN, {}, "selective_scan() of x, dt, a, b, c, _, carried h, the count"),
    ("selective_scan", f"{SCAN} | f32[8] | _ | i32[B] is count", {}, "of x, dt, a, b, c, d, carried h, the count"),
    ("selective_scan", f"{SCAN} | f32[8] | _ | i32[B]", {}, "refused: its count is not that of the tokens"),
    ("selective_scan", f"{SCAN} | _ | f32[B, 8, 2]", {}, "refused: it has a state already"),
    ("selective_scan", SCAN.replace("S", "T"), {}, INDEPENDENT),
    ("selective_scan", SCAN.replace("S", "T").replace("B", "S"), {}, "refused: selective_scan(f32[S, T, 8], i32[B])"),
    # products
    ("matmul", "f32[B, S, 4] | f32[4, 8]", {}, INDEPENDENT),
    ("matmul", "f32[B, S, T] | f32[B, T, 8]", {}, INDEPENDENT),
    ("matmul", "f32[B, 4, 8] | f32[B, 8, S]", {}, INDEPENDENT),
    ("matmul", "f32[S, 4, 8] | f32[S, 8, 2]", {}, INDEPENDENT),
    ("matmul", "f32[B, S, 4] | f32[B, 4, S]", {}, AGAINST),
    ("matmul", "f32[B, 4, S] | f32[B, S, 8]", {}, f"{MIXES} a, f32[B, 4, S]"),
    ("linear", "f32[B, S, 4] | f32[8, 4] | f32[8]", {}, INDEPENDENT),
    ("linear", "f32[{B*S}, 4] | f32[8, 4]", {}, INDEPENDENT),
    ("linear", "f32[B, 4, S] | f32[8, S]", {}, f"{MIXES} x, f32[B, 4, S]"),
    ("linear", "f32[B, 4] | f32[S, 4]", {}, f"{MIXES} w, f32[S, 4]"),
    ("embedding", "i32[B, S] | f32[99, 8]", {}, INDEPENDENT),
    ("embedding", "i32[B, T] | f32[S, 8]", {}, f"{MIXES} w, f32[S, 8]"),
    # along the last axis
    ("rms_norm", "f32[B, S, 8] | f32[8]", {"eps": 1e-5}, INDEPENDENT),
    ("rms_norm", "f32[B, S] | f32[S]", {"eps": 1e-5}, f"{MIXES} x, f32[B, S]"),
    ("layer_norm", "f32[B, S, 8] | f32[8] | f32[8]", {"eps": 1e-5}, INDEPENDENT),
    ("layer_norm", "f32[B, S] | f32[S]", {"eps": 1e-5}, f"{MIXES} x, f32[B, S]"),
    ("quantize", "f32[B, S, 32]", {"format": "q8_0"}, INDEPENDENT),
    ("dequantize", "q8_0[B, S, 32]", {}, INDEPENDENT),
    ("relayout", "q8_0[S, 32]", {"layout": "planes"}, INDEPENDENT),
    ("unpack_bits", "i32[B, S, 4]", {"bits": 4, "axis": 2}, INDEPENDENT),
    ("unpack_bits", "i32[S, 4]", {"bits": 4, "axis": 0}, f"{MIXES} x, i32[S, 4]"),
    ("pack_parts", "f16[S, 1] | u8[S, 1] | u8[S, 128]", {"format": "int4_128"}, INDEPENDENT),
    # reductions
    *((name, "f32[B, S, 4]", {"axes": (2,)}, INDEPENDENT) for name in ("reduce_sum", "reduce_mean", "reduce_max")),
    ("reduce_sum", "f32[B, S, 4]", {"axes": (0,)}, "refused: it mixes the sequences of its operand x"),
    ("reduce_sum", "f32[B, 1, S, C]", {"axes": (3,)}, f"{MIXES} x"),
    *((name, "f32[B, S, 4]", {"axes": (1,)}, f"{MIXES} x") for name in ("reduce_sum", "reduce_mean", "reduce_max")),
    ("reduce_sum", "f32[2, B, S, 4]", {"axes": (0, 3), "keepdims": False}, INDEPENDENT),
    ("reduce_max", "f32[{B*S}, 4]", {"axes": (0,)}, f"{MIXES} x, f32[{{B*S}}, 4]"),
    *((name, "f32[B, S, 4]", {"axis": 2}, INDEPENDENT) for name in ("cumulative_sum", "softmax")),
    *((name, "f32[B, S, 4]", {"axis": -2}, f"{MIXES} x, f32[B, S, 4]") for name in ("cumulative_sum", "softmax")),
    # the same numbers in another shape: tokens stay apart where they are the innermost factor of one axis
    ("reshape", "f32[B, S, 8]", shaped(B, S, 2, 4), INDEPENDENT),
    ("reshape", "f32[B, S, 8]", shaped(B * S, 8), INDEPENDENT),
    ("reshape", "f32[{B*S}, 8]", shaped(B, S, 8), INDEPENDENT),
    ("reshape", "f32[B, 4, S, 8]", shaped(B * 4, S, 8), INDEPENDENT),
    ("reshape", "f32[B, T, 8]", shaped(B * T * 8), INDEPENDENT),
    ("reshape", "f32[B, S, 8]", shaped(B, S * 8), "refused: it moves the tokens of f32[B, S, 8] to where others are"),
    ("reshape", "f32[S, B, 8]", shaped(B * S, 8), "refused: it moves the tokens of f32[S, B, 8] to where others are"),
    ("reshape", "f32[B, S, 8]", shaped(B, 2 * S, 4), "refused: it moves the tokens"),
    ("reshape", "f32[B, S, 8]", shaped(S, B, 8), "refused: it moves the tokens"),
    ("reshape", "f32[B, S, S]", shaped(B, S, S, 1), "refused: it moves the tokens"),
    ("transpose", "f32[B, S, 2, 4]", {"perm": (0, 2, 1, 3)}, INDEPENDENT),
    ("transpose", "f32[B, S, S]", {"perm": (0, 2, 1)}, "refused: its operand x, f32[B, S, S], has tokens along two"),
    ("squeeze", "f32[B, S, 1]", {"axes": (2,)}, INDEPENDENT),
    ("unsqueeze", "f32[B, S]", {"axes": (0, 3)}, INDEPENDENT),
    ("broadcast_to", "f32[1, 4]", shaped(B, S, 4), INDEPENDENT),
    ("broadcast_to", "f32[B, S, 1]", shaped(B, S, 4), INDEPENDENT),
    ("broadcast_to", "f32[B, S, 1]", shaped(B, S, S), COUNTS),
    ("concat", "f32[B, S, 4] | f32[B, S, 2]", {"axis": -1}, INDEPENDENT),
    ("concat", "f32[B, 1, 4] | f32[B, S, 4]", {"axis": 1}, f"{MIXES} xs, f32[B, S, 4]"),
    ("split", "f32[B, S, 4]", {"axis": 2, "sizes": (1, 3)}, INDEPENDENT),
    ("split", "f32[B, S, 4]", {"axis": 1, "sizes": (1, S - 1)}, f"{MIXES} x, f32[B, S, 4]"),
    ("slice", "f32[B, S, 4]", {"axis": 2, "start": 1, "stop": 3}, INDEPENDENT),
    ("slice", "f32[B, S, 4]", {"axis": 1, "start": 1, "stop": S}, f"{MIXES} x, f32[B, S, 4]"),
    ("slice", "f32[99, 4]", {"axis": 0, "start": 0, "stop": S}, COUNTS),
    ("slice", "f32[99, 4]", {"axis": 0, "start": S - 1, "stop": S}, "refused: it"),  # a row for each length
    ("stack", "f32[B, S] | f32[B, S]", {}, INDEPENDENT),
    ("index", "f32[2, B, S]", {"index": 1}, INDEPENDENT),
    ("index", "f32[S, 4]", {"index": 0}, f"{MIXES} x, f32[S, 4]"),
    ("iota", "", {"size": S}, COUNTS),
    ("iota", "", {"size": T}, INDEPENDENT),
    ("gather", "f32[99, 8] | i32[B, S]", {"axis": 0}, INDEPENDENT),
    ("gather", "f32[B, S, 8] | i32[3]", {"axis": 2}, INDEPENDENT),
    ("gather", "f32[B, S, 8] | i32[3]", {"axis": 1}, f"{MIXES} x, f32[B, S, 8]"),
    ("gather", "f32[S, 8] | i32[B, S]", {"axis": 1}, AGAINST),
    ("gather_elements", "f32[B, S, 8] | i32[B, S, 2]", {"axis": 2}, INDEPENDENT),
    ("gather_elements", "f32[B, S, 8] | i32[B, S, 8]", {"axis": 1}, f"{MIXES} x, f32[B, S, 8]"),
    ("top_k", "f32[B, S, 8]", {"k": 2}, INDEPENDENT),
    ("expert_linear", "f32[B, S, 1, 8] | f32[4, 6, 8] | i32[B, S, 2]", {}, INDEPENDENT),
    ("expert_linear", "f32[{B*S}, 2, 32] | q8_0[4, 6, 32] | i32[{B*S}, 2]", {}, INDEPENDENT),
    ("expert_linear", "f32[B, 1, S] | f32[4, 6, S] | i32[B, 2]", {}, f"{MIXES} x, f32[B, 1, S]"),
    ("expert_linear", "f32[B, 1, 8] | f32[S, 6, 8] | i32[B, 2]", {}, f"{MIXES} w, f32[S, 6, 8]"),
    ("top_k", "f32[B, S]", {"k": 2}, f"{MIXES} x, f32[B, S]"),
    ("gather_nd", "f32[99, 8] | i32[B, S, 1]", {}, INDEPENDENT),
    ("gather_nd", "f32[B, S, 8] | i32[T, 2]", {}, f"{MIXES} x, f32[B, S, 8]"),
]


@pytest.mark.parametrize(("name", "types", "attributes", "expected"), CASES)
def test_an_op_in_a_step(name: str, types: str, attributes: dict[str, Any], expected: str) -> None:
    attributes = {"scale": 1.0} | attributes if name == "attention" else attributes
    found = answer(name, types, **attributes)
    assert found.startswith(expected) if expected.startswith("refused: ") else found.endswith(expected), found


ELEMENTWISE = [name for name in ours() if OPS[name].elementwise]
BODIES = [name for name in ours() if OPS[name].bodies]


def test_every_op_is_asked() -> None:
    assert {name for name, *_ in CASES} | {*ELEMENTWISE, *BODIES, *LEAVES} == set(ours())
    refused = {name for name, _, _, expected in CASES if expected.startswith("refused: ")}
    assert not refused & set(ELEMENTWISE)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_an_elementwise_op_keeps_tokens_apart(name: str) -> None:
    """Where they run along one axis of its operands, broadcast or not; along two, each meets every other."""
    example = ORACLES[name][0]
    attributes = {k: getattr(example.op, k) for k in example.op.fields()}
    dtypes = [type_of(x).dtype for x in example.inputs]

    def of(*shapes: str) -> str:
        return answer(name, " | ".join(d + s for d, s in zip(dtypes, shapes, strict=False)), **attributes)

    assert of("[B, S, 4]", "[B, S, 4]", "[B, S, 4]") == INDEPENDENT
    assert of("[B, S, 4]", "[S, 1]", "[4]") == INDEPENDENT
    assert of("[B, T, S]", "[S]", "[]") == INDEPENDENT
    if len(dtypes) > 1:
        assert of("[B, S, 1]", "[B, 1, S]", "[]") == AGAINST
    if len(dtypes) > 2:
        assert of("[4, 1]", "[B, S, 1]", "[S]") == AGAINST


def body(module: Module, name: str, x: str, build: Callable[[Any, Value], Any]) -> Graph:
    graph = module.body(name)
    value = graph.input("x", parse_type(x))
    graph.set_outputs({"y": build(graph.ops, value)})
    return graph


@pytest.mark.parametrize(
    ("x", "inner", "expected"),
    [
        ("f32[T]", lambda op, x: op.exp(x), INDEPENDENT),
        ("f32[B, T]", lambda op, x: op.exp(x), "refused: it mixes the sequences of its operand operands, f32[B, T]"),
        ("f32[B, S]", lambda op, x: op.exp(x), f"{MIXES} operands, f32[B, S]"),
        (
            "i32[T]",
            lambda op, x: op.add(x, op.reduce_sum(op.iota(size=S), axes=(0,))),
            "refused: tokens have a part in a graph that it holds",
        ),
    ],
)
def test_an_op_with_bodies(x: str, inner: Callable[[Any, Value], Any], expected: str) -> None:
    module = Module()
    bodies = [body(module, name, x, inner) for name in ("then", "else")]
    assert answer("if", f"bool[] | {x}", bodies) == expected
    loop = {"count": 2, "carries": 1, "shared": 0, "states": 0}
    assert answer("repeat", x, bodies=[body(Module(), "body", x, inner)], **loop) == expected


def test_an_op_with_bodies_in_bodies() -> None:
    """However deep tokens are counted."""
    module = Module()

    def build(op: Any, x: Value) -> Value:
        counted = body(module, "deep", "i32[T]", lambda op, x: op.add(x, op.reduce_sum(op.iota(size=S), axes=(0,))))
        return op.repeat(x, bodies=[counted], count=2, carries=1, shared=0, states=0)

    bodies = [body(module, name, "i32[T]", build) for name in ("then", "else")]
    assert answer("if", "bool[] | i32[T]", bodies) == "refused: tokens have a part in a graph that it holds"


def test_a_table_of_positions_bounds_the_tokens() -> None:
    graph = Module().graph("f")
    ids, table = graph.input("ids", Type("i32", (B, S))), graph.input("table", Type("f32", (512, 8)))
    assert said(graph, graph.ops.embedding(ids, table)) == INDEPENDENT and not graph.ops.assumed
    at = graph.ops.positions(ids)
    assert said(graph, graph.ops.embedding(at, table)) == INDEPENDENT
    assert graph.ops.assumed == [AtMost(CAPACITY, 512)]


# ------------------------------------------------------------------------------------------------------ an op of others


def test_a_new_op_that_says_nothing_is_refused(registries: None) -> None:
    class Peculiar(Op):
        """x"""

        size: Dim = 0

        def infer(self, x: Type) -> Type:
            return x.with_shape((*x.shape, self.size)) if self.size else x

    assert answer("peculiar", "f32[B, S, 4]") == f"{MIXES} x, f32[B, S, 4]"
    assert answer("peculiar", "f32[4]") == INDEPENDENT, "it is given no tokens"
    assert answer("peculiar", "f32[B, 4]") == "refused: it mixes the sequences of its operand x, f32[B, 4]"
    assert answer("peculiar", "f32[4]", size=S) == COUNTS


def test_a_new_op_is_taken_at_its_word(registries: None) -> None:
    class Rowwise(Op):
        """x, a row at a time."""

        by_last_axis = True

        def infer(self, x: Type, w: Type | None = None) -> Type:
            return x

    class Turned(Op):
        """x with its axes exchanged."""

        def infer(self, x: Type) -> Type:
            return x.with_shape(x.shape[::-1])

        def along(self, x: Type) -> tuple[Axes, ...]:
            return ((1, 0),)

    class Shifted(Rowwise):
        """x, each row in the place of the next."""

        def stateful(self, op: Any, node: Any, state: Any) -> Any:
            return op.again(node, w=state.before("shift", node["x"], 1))

    assert answer("rowwise", "f32[B, S, 4]") == INDEPENDENT
    assert answer("rowwise", "f32[B, S]") == f"{MIXES} x, f32[B, S]"
    assert answer("rowwise", "f32[B, 4] | f32[S]") == f"{MIXES} w, f32[S]"
    assert answer("turned", "f32[S, 4]") == answer("turned", "f32[4, S]") == INDEPENDENT
    assert answer("shifted", "f32[B, S, 4]") == "shifted() of x, 1 before shift"


@pytest.mark.parametrize(("type", "axes"), [("f32[B, S]", [1]), ("f32[{B*S}, 4]", [0]), ("f32[S, {S + 1}]", [0, 1])])
def test_axes_of_tokens(type: str, axes: list[int]) -> None:
    assert axes_with(parse_type(type), "S") == axes
    assert axes_with(parse_type(type), "T") == []
