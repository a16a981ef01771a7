"""recover-positions: golden/recover-positions shows what it does; models that write positions out, decoded in steps.

Each is a decoder of one attention, whose positions are written in one of the ways of imports. In steps, its logits are
those of the definition, a loop in float64 over whole sequences; what cannot go on in steps is refused with its node.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from burnish.backends.target import make_backend
from burnish.ir import Module, Type, Value, verify
from burnish.ir.dims import Sym
from burnish.ir.signature import LOGITS, TOKENS, Facts
from burnish.passes.engine import PassError
from burnish.passes.pipelines import run_passes
from burnish.testing import logits_by_steps
from tests import models

B, S = Sym("B"), Sym("S")
WIDTH, HEADS, LENGTH, ROWS = 8, 2, 11, 18
STEPS = [[3, 1, 5], [4, 6, 0], [3, 3, 5], [1, 1, 1]]  # three sequences, in unequal steps
Build = Callable[[Any, Value], Value]  # of a builder and x[B, S, 8]; of heads, x[B, 2, S, 4]
Means = Callable[[np.ndarray], np.ndarray]  # the same of arrays, in float64


@pytest.mark.parametrize("case", ["rope_and_table", "written_out"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("recover-positions", case)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("f4")


EMBEDDING, HEAD, TABLE = numbers(32, WIDTH), numbers(12, WIDTH), numbers(ROWS, WIDTH)
FREQUENCIES = np.array([1.0, 0.25], "f4")


def same(x: Any) -> Any:
    return x


def decoder(build: Build = lambda op, x: x, turn: Build = lambda op, x: x) -> Module:
    """`build` behind the embedding, `turn` of queries and keys; a causal attention, and a head."""
    module = Module(facts=Facts(task="text-generation"))
    graph = module.graph("forward")
    op, ids = graph.ops, graph.input("ids", Type("i32", (B, S)), TOKENS)
    x = build(op, op.embedding(ids, op.constant(EMBEDDING)))
    heads = op.reshape(x, shape=(B, S, HEADS, WIDTH // HEADS))
    q = op.transpose(turn(op, op.transpose(heads, perm=(0, 2, 1, 3))), perm=(0, 2, 1, 3))
    y = op.add(x, op.reshape(op.attention(q, q, heads, scale=0.5, causal=True), shape=(B, S, WIDTH)))
    graph.set_outputs({"logits": op.linear(y, op.constant(HEAD))}, {"logits": LOGITS})
    module.normalize()
    verify(module)
    return module


def expected(ids: np.ndarray, build: Means = same, turn: Means = same) -> np.ndarray:
    """The logits [B, S, 12], a row at a time."""
    x = build(EMBEDDING[ids].astype("f8"))
    heads = x.reshape(*ids.shape, HEADS, WIDTH // HEADS).transpose(0, 2, 1, 3)
    q, y = turn(heads), np.zeros_like(heads)
    for b, h, s in np.ndindex(*q.shape[:3]):
        p = np.exp(0.5 * q[b, h, : s + 1] @ q[b, h, s])
        y[b, h, s] = p @ heads[b, h, : s + 1] / p.sum()
    return (x + y.transpose(0, 2, 1, 3).reshape(x.shape)) @ HEAD.T


def check(module: Module, want: np.ndarray, ids: np.ndarray, backend: str) -> None:
    """The plain graph, after the default pipeline too, and the stateful one in steps."""
    largest = np.abs(want).max()
    for pipeline in ("", "default"):
        runner = make_backend(backend, run_passes(module.copy(), pipeline).module)
        found = runner.to_numpy(runner("forward", {"ids": ids})["logits"])
        assert np.abs(found - want).max() < models.WITHIN * largest, pipeline or "as it is"
    stateful = run_passes(module.copy(), "default,stateful").module
    rows = logits_by_steps(make_backend(backend, stateful), "forward", ids.tolist(), STEPS)
    assert {(b, LENGTH - 1) for b in range(3)} <= set(rows)
    for (b, i), row in rows.items():
        error = np.abs(row - want[b, i]).max() / largest
        assert error < models.WITHIN, f"token {i} of sequence {b}: {error:.1e} of the largest"


# ----------------------------------------------------------------------------------------- what is added to the tokens


def row(op: Any, dtype: str = "i64") -> Value:
    """0, 1, …, S - 1 as [1, S]"""
    return op.unsqueeze(op.iota(size=S, dtype=dtype), axes=(0,))


def table(op: Any, at: Value) -> Value:
    return op.gather(op.constant(TABLE), at, axis=0)


def added_first(op: Any, x: Value) -> Value:
    return op.add(table(op, row(op)), x)


def added_second(op: Any, x: Value) -> Value:
    return op.add(x, table(op, op.iota(size=S)))


def for_each_sequence(op: Any, x: Value) -> Value:
    return op.add(x, table(op, op.broadcast_to(row(op), shape=(B, S))))


def by_slice(op: Any, x: Value) -> Value:
    return op.add(x, op.slice(op.constant(TABLE[None]), axis=1, start=0, stop=S))


def by_slice_of_rows(op: Any, x: Value) -> Value:
    return op.add(op.slice(op.constant(TABLE), axis=0, start=0, stop=S), x)


def by_slice_of_columns(op: Any, x: Value) -> Value:
    """A table that lies the other way."""
    columns = op.slice(op.constant(np.ascontiguousarray(TABLE.T)), axis=1, start=0, stop=S)
    return op.add(x, op.transpose(columns, perm=(1, 0)))


def by_gather_nd(op: Any, x: Value) -> Value:
    return op.add(x, op.gather_nd(op.constant(TABLE), op.unsqueeze(row(op), axes=(2,))))


def by_gather_elements(op: Any, x: Value) -> Value:
    """Each index written as often as a row is long."""
    at = op.squeeze(op.broadcast_to(op.unsqueeze(row(op), axes=(2, 3)), shape=(1, S, WIDTH, 1)), axes=(3,))
    return op.add(x, op.gather_elements(op.constant(TABLE[None]), at, axis=1))


def cut_from_numbers(op: Any, x: Value) -> Value:
    """As a buffer of positions."""
    at = op.slice(op.constant(np.arange(ROWS)[None]), axis=1, start=0, stop=S)
    return op.add(x, table(op, op.broadcast_to(at, shape=(B, S))))


def from_two(op: Any, x: Value) -> Value:
    return op.add(x, table(op, op.add(row(op), 2)))


def from_two_by_slice(op: Any, x: Value) -> Value:
    return op.add(x, op.slice(op.constant(TABLE), axis=0, start=2, stop=S + 2))


def from_two_of_numbers(op: Any, x: Value) -> Value:
    at = op.slice(op.constant(np.arange(ROWS)[None]), axis=1, start=2, stop=S + 2)
    return op.add(table(op, at), x)


def running_sum_of_ones(op: Any, x: Value) -> Value:
    """As of a mask that is not given."""
    ones = op.broadcast_to(op.constant(np.ones((1, 1), "f4")), shape=(B, S))
    at = op.sub(op.mul(op.cumulative_sum(ones, axis=1), ones), 1.0)
    return op.add(x, table(op, op.add(op.cast(at, to="i64"), 2)))


def sinusoids(op: Any, x: Value) -> Value:
    angles = op.mul(
        op.unsqueeze(op.iota(size=S, dtype="f32"), axes=(1,)), op.constant(np.array([1, 0.5, 0.2, 0.1], "f4"))
    )
    return op.add(x, op.mul(op.concat(op.sin(angles), op.cos(angles), axis=-1), 0.5))


def sinusoids_by_product(op: Any, x: Value) -> Value:
    at = op.unsqueeze(op.cast(row(op), to="f32"), axes=(1,))
    columns = op.constant(np.array([1, 0.5, 0.2, 0.1], "f4").reshape(1, 4, 1))
    angles = op.transpose(op.matmul(columns, at), perm=(0, 2, 1))
    pairs = op.concat(op.sin(angles), op.cos(angles), axis=2)
    return op.add(op.div(pairs, 2.0), x)


def first_token_alone(op: Any, x: Value) -> Value:
    first = op.equal(op.unsqueeze(op.iota(size=S), axes=(1,)), op.constant(np.array(0, "i4")))
    return op.where(first, op.constant(TABLE[3]), x)


def scaled_and_gated(op: Any, x: Value) -> Value:
    """Positions are not added, but multiply."""
    far = op.reshape(op.cast(op.iota(size=S), to="f32"), shape=(1, S, 1))
    return op.div(op.mul(x, op.add(far, 1.0)), op.add(far, 2.0))


def parts_of_rows(op: Any, x: Value) -> Value:
    """A row of the table in two halves, each where the other was."""
    left, right = op.split(table(op, row(op)), axis=2, sizes=(4, 4))
    return op.add(x, op.concat(right, left, axis=2))


def at(x: np.ndarray, first: int = 0) -> np.ndarray:
    return TABLE[np.arange(x.shape[1]) + first].astype("f8")


def waves(x: np.ndarray) -> np.ndarray:
    angles = np.arange(x.shape[1])[:, None] * np.array([1, 0.5, 0.2, 0.1], "f4").astype("f8")
    return np.concatenate([np.sin(angles), np.cos(angles)], -1)


def all_but_first(x: np.ndarray) -> np.ndarray:
    return np.concatenate([np.broadcast_to(TABLE[3].astype("f8"), (len(x), 1, WIDTH)), x[:, 1:]], axis=1)


def gated(x: np.ndarray) -> np.ndarray:
    far = np.arange(x.shape[1])[:, None]
    return x * (far + 1) / (far + 2)


def on_both(cases: list[tuple[Build, Means]], sample: dict[Build, Any]) -> list[Any]:
    """Each on NumPy and on XLA, which compiles five sizes of it: of those, a sample."""
    marks = {(b, "xla"): sample.get(b, pytest.mark.parity) for b, _ in cases}
    return [
        pytest.param(b, m, backend, marks=marks.get((b, backend), ()), id=f"{b.__name__}-{backend}")
        for b, m in cases
        for backend in ("numpy", "xla")
    ]


ADDED: list[tuple[Build, Means]] = [
    *((build, lambda x: x + at(x)) for build in (added_first, added_second, for_each_sequence, by_slice)),
    (cut_from_numbers, lambda x: x + at(x)),
    *(
        (build, lambda x: x + at(x))
        for build in (by_slice_of_rows, by_slice_of_columns, by_gather_nd, by_gather_elements)
    ),
    *((build, lambda x: x + at(x, 2)) for build in (from_two, from_two_by_slice, from_two_of_numbers)),
    (running_sum_of_ones, lambda x: x + at(x, 2)),
    *((build, lambda x: x + 0.5 * waves(x)) for build in (sinusoids, sinusoids_by_product)),
    (first_token_alone, all_but_first),
    (scaled_and_gated, gated),
    (parts_of_rows, lambda x: x + np.roll(at(x), 4, axis=-1)),
]
ADDED_ON_XLA = {added_first: (), scaled_and_gated: pytest.mark.slow}


@pytest.mark.parametrize(("build", "means", "backend"), on_both(ADDED, ADDED_ON_XLA))
def test_positions_beside_tokens_go_on_from_step_to_step(build: Build, means: Means, backend: str) -> None:
    ids = models.tokens((3, LENGTH), 32)
    check(decoder(build), expected(ids, means), ids, backend)


# ------------------------------------------------------------------------------------------------- what turns the heads


def tables(op: Any, dtype: str = "f32") -> list[Value]:
    """cos and sin of each position, [1, S, 4], their frequencies written twice."""
    angles = op.mul(op.cast(op.unsqueeze(row(op), axes=(2,)), to="f32"), op.constant(FREQUENCIES))
    twice = op.concat(angles, angles, axis=-1)
    return [op.cast(f(twice), to=dtype) if dtype != "f32" else f(twice) for f in (op.cos, op.sin)]


def halves(op: Any, x: Value, cos: Value, sin: Value) -> Value:
    """x cos + (-right, left) sin, of cos and sin [1, S, 4] or [1, 1, S, 4]"""
    cos, sin = (t if t.type.rank == 4 else op.unsqueeze(t, axes=(1,)) for t in (cos, sin))
    left, right = op.slice(x, axis=3, start=0, stop=2), op.slice(x, axis=3, start=2, stop=4)
    turned = op.concat(op.neg(right), left, axis=-1)
    return op.add(op.mul(x, cos), op.mul(turned, sin))


def turned(op: Any, x: Value) -> Value:
    return halves(op, x, *tables(op))


def turned_and_scaled(op: Any, x: Value) -> Value:
    """As YaRN does."""
    return halves(op, x, *(op.mul(t, 1.25) for t in tables(op)))


def turned_and_scaled_apart(op: Any, x: Value) -> Value:
    """cos and sin by two numbers: no rotation."""
    cos, sin = tables(op)
    return halves(op, x, op.mul(cos, 1.25), op.mul(sin, 0.75))


def turned_through_f16(op: Any, x: Value) -> Value:
    return halves(op, x, *(op.cast(t, to="f32") for t in tables(op, "f16")))


def turned_by_kept_tables(op: Any, x: Value) -> Value:
    """Computed for all positions, cut to those that there are."""
    angles = np.arange(ROWS)[:, None] * np.concatenate([FREQUENCIES, FREQUENCIES])
    kept = (op.constant(f(angles).astype("f4")[None, None]) for f in (np.cos, np.sin))
    return halves(op, x, *(op.slice(t, axis=2, start=0, stop=S) for t in kept))


def turned_by_looked_up_tables(op: Any, x: Value) -> Value:
    angles = np.arange(ROWS)[:, None] * np.concatenate([FREQUENCIES, FREQUENCIES])
    kept = (op.constant(f(angles).astype("f4")) for f in (np.cos, np.sin))
    return halves(op, x, *(op.gather(t, row(op), axis=0) for t in kept))


def turned_in_pairs(op: Any, x: Value) -> Value:
    """Pairs (x[2j], x[2j + 1]), each number of a table of sin and cos written twice in a row."""
    angles = np.arange(ROWS)[:, None] * FREQUENCIES
    both = op.gather(op.constant(np.concatenate([np.sin(angles), np.cos(angles)], -1).astype("f4")), row(op), axis=0)
    sin, cos = (
        op.unsqueeze(
            op.reshape(op.broadcast_to(op.unsqueeze(t, axes=(3,)), shape=(1, S, 2, 2)), shape=(1, S, 4)), axes=(1,)
        )
        for t in op.split(both, axis=-1, sizes=(2, 2))
    )
    pairs = op.reshape(x, shape=(B, HEADS, S, 2, 2))
    first, second = (op.slice(pairs, axis=4, start=i, stop=i + 1) for i in (0, 1))
    turned = op.reshape(op.concat(op.neg(second), first, axis=-1), shape=(B, HEADS, S, 4))
    return op.add(op.mul(x, cos), op.mul(turned, sin))


def turned_in_part(op: Any, x: Value) -> Value:
    """The first two numbers of each head, by one frequency."""
    angles = op.mul(op.cast(op.unsqueeze(row(op), axes=(2,)), to="f32"), op.constant(FREQUENCIES[1:]))
    cos, sin = (op.unsqueeze(f(op.concat(angles, angles, axis=-1)), axes=(1,)) for f in (op.cos, op.sin))
    part, rest = op.split(x, axis=3, sizes=(2, 2))
    left, right = op.split(part, axis=3, sizes=(1, 1))
    part = op.add(op.mul(part, cos), op.mul(op.concat(op.neg(right), left, axis=3), sin))
    return op.concat(part, rest, axis=3)


def by_halves(cos: float = 1.0, sin: float = 1.0, rounded: str = "f8") -> Means:
    def turn(x: np.ndarray) -> np.ndarray:
        angles = np.arange(x.shape[2])[:, None] * np.concatenate([FREQUENCIES, FREQUENCIES]).astype("f8")
        c, s = (f(angles).astype(rounded).astype("f8") for f in (np.cos, np.sin))
        return x * c * cos + np.concatenate([-x[..., 2:], x[..., :2]], -1) * s * sin

    return turn


def by_pairs(x: np.ndarray) -> np.ndarray:
    z = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * np.arange(x.shape[2])[:, None] * FREQUENCIES)
    return np.stack([z.real, z.imag], -1).reshape(x.shape)


def in_part(x: np.ndarray) -> np.ndarray:
    z = (x[..., 0] + 1j * x[..., 1]) * np.exp(1j * np.arange(x.shape[2]) * FREQUENCIES[1])
    return np.concatenate([np.stack([z.real, z.imag], -1), x[..., 2:]], -1)


TURNED: list[tuple[Build, Means]] = [
    *((turn, by_halves()) for turn in (turned, turned_by_kept_tables, turned_by_looked_up_tables)),
    (turned_and_scaled, by_halves(1.25, 1.25)),
    (turned_and_scaled_apart, by_halves(1.25, 0.75)),
    (turned_through_f16, by_halves(rounded="f2")),
    (turned_in_pairs, by_pairs),
    (turned_in_part, in_part),
]
TURNED_ON_XLA = {turned: pytest.mark.slow, turned_in_pairs: pytest.mark.slow}


@pytest.mark.parametrize(("turn", "means", "backend"), on_both(TURNED, TURNED_ON_XLA))
def test_rotations_written_out_go_on_from_step_to_step(turn: Build, means: Means, backend: str) -> None:
    ids = models.tokens((3, LENGTH), 32)
    check(decoder(turn=turn), expected(ids, turn=means), ids, backend)


@pytest.mark.parametrize(
    ("build", "most"),
    [
        *((build, ROWS) for build in (added_first, by_slice, by_gather_nd)),
        *((build, ROWS - 2) for build in (from_two, from_two_by_slice, running_sum_of_ones)),
    ],
)
def test_a_table_bounds_how_many_tokens_there_may_be(build: Build, most: int) -> None:
    runner = make_backend("numpy", run_passes(decoder(build), "default,stateful").module)
    tokens = models.tokens((1, most + 1), 32).tolist()
    logits_by_steps(runner, "forward", [tokens[0][1:]], [[most - 1], [1]])
    with pytest.raises(ValueError, match=f"assumed that .*C.* <= {ROWS}"):
        logits_by_steps(runner, "forward", tokens, [[most], [1]])


# ------------------------------------------------------------------------------------------------------------- refused


def share_of_the_whole(op: Any, x: Value) -> Value:
    """How far into the text a token is."""
    whole = op.cast(op.slice(op.iota(size=S + 1), axis=0, start=S, stop=S + 1), to="f32")
    return op.mul(x, op.unsqueeze(op.div(op.cast(op.iota(size=S), to="f32"), whole), axes=(1,)))


def from_the_end(op: Any, x: Value) -> Value:
    last = op.slice(op.iota(size=S), axis=0, start=S - 1, stop=S)
    return op.add(x, table(op, op.sub(last, op.iota(size=S))))


def last_rows(op: Any, x: Value) -> Value:
    return op.add(x, op.slice(op.constant(TABLE), axis=0, start=ROWS - S, stop=ROWS))


def by_share_of_softmax(op: Any, x: Value) -> Value:
    share = op.softmax(op.cast(op.iota(size=S), to="f32"))
    return op.mul(x, op.unsqueeze(share, axes=(1,)))


@pytest.mark.parametrize(
    ("build", "node"),
    [
        (share_of_the_whole, "iota"),
        (from_the_end, "iota"),
        (last_rows, "slice"),
        (by_share_of_softmax, "softmax|iota"),
    ],
)
def test_what_is_no_position_is_refused_with_its_node(build: Build, node: str) -> None:
    module = run_passes(decoder(build), "default").module
    with pytest.raises(PassError, match="cannot go on from step to step") as e:
        run_passes(module, "stateful")
    assert re.search(rf"(?m)^  > .* = ({node})\(", str(e.value)), e.value


def test_what_a_key_adds_is_no_position_of_a_query() -> None:
    """A bias by the key alone, as ALiBi is written out."""
    module = Module(facts=Facts(task="text-generation"))
    graph = module.graph("forward")
    op, ids = graph.ops, graph.input("ids", Type("i32", (B, S)), TOKENS)
    x = op.embedding(ids, op.constant(EMBEDDING))
    q = op.transpose(op.reshape(x, shape=(B, S, HEADS, 4)), perm=(0, 2, 1, 3))
    scores = op.matmul(q, op.transpose(q, perm=(0, 1, 3, 2)))
    slopes = op.constant(np.array([0.5, 0.25], "f4").reshape(1, 2, 1, 1))
    keys = op.reshape(op.cast(op.iota(size=S), to="f32"), shape=(1, 1, 1, S))
    seen = op.less_or_equal(op.iota(size=S), op.unsqueeze(op.iota(size=S), axes=(1,)))
    bias = op.add(op.mul(slopes, keys), op.where(seen, 0.0, op.constant(-math.inf)))
    y = op.transpose(op.matmul(op.softmax(op.add(scores, bias)), q), perm=(0, 2, 1, 3))
    graph.set_outputs({"logits": op.linear(op.reshape(y, shape=(B, S, WIDTH)), op.constant(HEAD))}, {"logits": LOGITS})
    module.normalize()
    with pytest.raises(PassError, match="cannot go on from step to step"):
        run_passes(module, "default,stateful")
