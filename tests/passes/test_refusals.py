"""Graphs that steps cannot go through: each is refused with its node, and what looks alike but can is decoded right."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import burnish
from burnish.backends.target import make_backend
from burnish.frontends.onnx_file import load_onnx
from burnish.ir import Module, Op, Type, Value, verify
from burnish.ir.dims import Dim, Sym
from burnish.ir.signature import COUNT, LOGITS, MASK, POSITIONS, TOKEN_TYPES, TOKENS, Facts
from burnish.passes.engine import PassError
from burnish.runtime.session import feed
from burnish.testing import logits_by_steps
from tests import models

B, S = Sym("B"), Sym("S")
WIDTH, LENGTH = 8, 11
Build = Callable[[Any, Value, Value], Value]  # of a builder, ids[B, S] and x[B, S, 8]
# three sequences: unequal steps, one of them without tokens for a sequence, one of a token each
STEPS = [[3, 1, 5], [4, 6, 0], [3, 3, 5], [1, 1, 1]]


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("f4")


def made(build: Build, length: Dim = S, batch: Dim = B) -> Module:
    """A model that makes text: `build` between an embedding and a head."""
    module = Module(facts=Facts(task="text-generation"))
    graph = module.graph("forward")
    op, ids = graph.ops, graph.input("ids", Type("i32", (batch, length)), TOKENS)
    x = build(op, ids, op.embedding(ids, op.constant(numbers(32, WIDTH))))
    graph.set_outputs({"logits": op.linear(x, op.constant(numbers(12, WIDTH)))}, {"logits": LOGITS})
    module.normalize()
    verify(module)
    return module


def given(op: Any, name: str, role: Any, *shape: Dim, dtype: str = "i32") -> Value:
    """A further input of the graph."""
    value: Value = op.graph.input(name, Type(dtype, shape), role)
    return value


def logits_of(module: Module, ids: np.ndarray) -> np.ndarray:
    """Of the plain graph, all tokens at once."""
    runner, count = make_backend("numpy", module), np.full(len(ids), ids.shape[1], "i4")
    return runner("forward", feed(module.graphs["forward"], ids, count, np.zeros(len(ids), "i4")))["logits"]


def check_rows(stateful: Module, expected: np.ndarray, ids: np.ndarray) -> None:
    """The logits that come out of every step are the expected ones."""
    found = logits_by_steps(make_backend("numpy", stateful), "forward", ids.tolist(), STEPS)
    assert {(b, LENGTH - 1) for b in range(3)} <= set(found)
    for (b, i), row in found.items():
        error = np.abs(row - expected[b, i]).max() / np.abs(expected).max()
        assert error < models.WITHIN, f"token {i} of sequence {b}: {error:.1e} of the largest"


def heads(op: Any, x: Value) -> Value:
    return op.reshape(x, shape=(B, S, 2, 4))


def attended(op: Any, x: Value, bias: Value | None = None, **how: Any) -> Value:
    """Self-attention of two heads, causal unless it is said."""
    q, how = heads(op, x), {"scale": 0.5, "causal": True} | how
    return op.reshape(op.attention(q, q, q, None, None, bias, **how), shape=(B, S, WIDTH))


def with_scores(op: Any, x: Value, scores: Value) -> Value:
    """x, of which two numbers are altered by scores[1, 2, S, 1]."""
    two, rest = op.split(x, axis=2, sizes=(2, 6))
    return op.concat(op.add(two, op.squeeze(op.transpose(scores, perm=(0, 2, 1, 3)), axes=(3,))), rest, axis=2)


def scan(op: Any, x: Value, count: Value | None = None) -> tuple[Value, Value]:
    a, (b, c) = op.constant(-np.exp(numbers(WIDTH, 4))), op.split(x, axis=2, sizes=(4, 4))
    return op.selective_scan(x, op.sigmoid(x), a, b, c, None, None, count)


# ----------------------------------------------------------------------------------------------------------- refused


def product_of_tokens(op: Any, ids: Value, x: Value) -> Value:
    """An attention by hand that no pass recovers: not softmax, but squares."""
    scores = op.matmul(x, op.transpose(x, perm=(0, 2, 1)))
    return op.matmul(op.mul(scores, scores), x)


def linear_over_tokens(op: Any, ids: Value, x: Value) -> Value:
    ones = op.broadcast_to(op.constant([[1.0]]), shape=(1, S))
    return op.add(x, op.transpose(op.linear(op.transpose(x, perm=(0, 2, 1)), ones), perm=(0, 2, 1)))


def mask_by_products(op: Any, ids: Value, x: Value) -> Value:
    at = op.positions(ids)
    seen = op.less_or_equal(op.unsqueeze(at, axes=(1,)), op.unsqueeze(at, axes=(2,)))
    return attended(op, x, op.unsqueeze(seen, axes=(1,)), causal=False)


def shifted(op: Any, ids: Value, x: Value) -> Value:
    """x[t] and x[t - 1], as convolutions are written by slices."""
    earlier = op.concat(op.constant(np.zeros((1, 1, WIDTH), "f4")), op.slice(x, axis=1, start=0, stop=S - 1), axis=1)
    return op.add(x, earlier)


def differences(op: Any, ids: Value, x: Value) -> Value:
    changes = op.sub(op.slice(x, axis=1, start=1, stop=S), op.slice(x, axis=1, start=0, stop=S - 1))
    return op.add(x, op.reduce_sum(changes, axes=(1,)))


def behind_a_prefix(op: Any, ids: Value, x: Value) -> Value:
    prefix = op.broadcast_to(op.constant(numbers(1, 2, WIDTH)), shape=(B, 2, WIDTH))
    return op.slice(op.concat(prefix, x, axis=1), axis=1, start=0, stop=S)


def attention_mask(op: Any, ids: Value, x: Value) -> Value:
    """A mask over keys that comes from an input without a role."""
    real = op.equal(given(op, "attention_mask", None, B, S), op.constant(np.array(1, "i4")))
    return attended(op, x, op.unsqueeze(real, axes=(1, 2)))


def positions_of_more(op: Any, ids: Value, x: Value) -> Value:
    """Those of the ids eight times over."""
    over = op.reshape(op.broadcast_to(op.unsqueeze(ids, axes=(1,)), shape=(B, 8, S)), shape=(B, 8 * S))
    at = op.transpose(op.reshape(op.positions(over), shape=(B, 8, S)), perm=(0, 2, 1))
    return op.add(x, op.cast(at, to="f32"))


def two_queries_a_token(op: Any, ids: Value, x: Value) -> Value:
    """Queries of both heads one after the other along the tokens' axis."""
    k = heads(op, x)
    q = op.reshape(op.transpose(k, perm=(0, 2, 1, 3)), shape=(B, 2 * S, 1, 4))
    key = op.slice(k, axis=2, start=0, stop=1)
    y = op.reshape(op.attention(q, key, key, scale=0.5, causal=True), shape=(B, 2, S, 4))
    return op.reshape(op.transpose(y, perm=(0, 2, 1, 3)), shape=(B, S, WIDTH))


def body_that_mixes(op: Any, ids: Value, x: Value, name: str) -> Value:
    def body(label: str) -> Any:
        graph = op.graph.module.body(label)
        inner = graph.input("x", x.type)
        graph.set_outputs({"y": graph.ops.cumulative_sum(inner, axis=1)})
        return graph

    if name == "if":
        return op.if_(op.constant(np.array(True)), x, bodies=[body("then"), body("else")])
    return op.repeat(x, bodies=[body("block")], count=2, carries=1, shared=0, states=0)


def count_as_a_number(op: Any, ids: Value, x: Value) -> Value:
    """Scores scaled by the logarithm of the length."""
    count = given(op, "count", COUNT, B)
    return op.mul(x, op.log(op.unsqueeze(op.cast(count, to="f32"), axes=(1, 2))))


def real_tokens(op: Any, ids: Value, x: Value) -> Value:
    """Which tokens are real, by positions: those of a step come behind others."""
    real = op.less(op.positions(ids), op.unsqueeze(given(op, "count", COUNT, B), axes=(1,)))
    return op.mul(x, op.unsqueeze(op.cast(real, to="f32"), axes=(2,)))


def keys_by_the_count(op: Any, ids: Value, x: Value) -> Value:
    """Keys that are no tokens, and hidden behind as many as there are tokens."""
    k = op.broadcast_to(op.constant(numbers(1, 9, 2, 4)), shape=(B, 9, 2, 4))
    y = op.attention(heads(op, x), k, k, None, given(op, "count", COUNT, B), scale=0.5)
    return op.reshape(y, shape=(B, S, WIDTH))


def fewer_real(op: Any) -> Value:
    """Always seven."""
    return op.broadcast_to(op.constant(np.array([7], "i4")), shape=(B,))


def tokens_as_a_size(op: Any, ids: Value, x: Value) -> Value:
    return op.mul(x, op.reduce_sum(op.broadcast_to(op.constant(np.ones((1, 1, 1), "f4")), shape=(1, S, 1)), axes=(1,)))


def first_of_each(op: Any, ids: Value, x: Value) -> Value:
    """gather_elements of indices that are fewer than the tokens reads the first of them."""
    at = op.broadcast_to(op.constant(np.array([[[1, 3]]], "i4")), shape=(B, 1, 2))
    return op.add(x, op.reduce_sum(op.gather_elements(x, at, axis=2), axes=(2,)))


def across_the_batch(op: Any, ids: Value, x: Value) -> Value:
    """Attention on axes that are the wrong way round: sequences at one token, not tokens of one sequence."""
    y = op.transpose(x, perm=(1, 0, 2))
    p = op.softmax(op.matmul(y, op.transpose(y, perm=(0, 2, 1))))
    return op.transpose(op.matmul(p, y), perm=(1, 0, 2))


def alibi(op: Any) -> Value:
    return op.alibi(op.constant([0.5, 0.25]), query=S, key=S)


MIXED: dict[str, tuple[str, Build]] = {
    # reductions and products
    "a running sum over tokens": ("cumulative_sum", lambda op, ids, x: op.cumulative_sum(x, axis=1)),
    "a mean over tokens": ("reduce_mean", lambda op, ids, x: op.sub(x, op.reduce_mean(x, axes=(1,)))),
    "a maximum over tokens": ("reduce_max", lambda op, ids, x: op.sub(x, op.reduce_max(x, axes=(1,)))),
    "a softmax over tokens": ("softmax", lambda op, ids, x: op.softmax(x, axis=1)),
    "a product of tokens with tokens": ("matmul", product_of_tokens),
    "tokens on the last axis of a linear": ("linear", linear_over_tokens),
    # the place of a token
    "positions by iota": (
        "iota",
        lambda op, ids, x: op.add(x, op.embedding(op.iota(size=S), op.constant(numbers(64, WIDTH)))),
    ),
    "positions by slice": (
        "slice",
        lambda op, ids, x: op.add(x, op.slice(op.constant(numbers(64, WIDTH)), axis=0, start=0, stop=S)),
    ),
    "a position of the table for each length": (
        "slice",
        lambda op, ids, x: op.add(x, op.slice(op.constant(numbers(64, WIDTH)), axis=0, start=S - 1, stop=S)),
    ),
    "the number of tokens": ("reduce_sum", tokens_as_a_size),
    "a number that the length picks": (
        "slice",
        lambda op, ids, x: op.mul(x, op.slice(op.concat(x, x, axis=2), axis=2, start=S, stop=S + 1)),
    ),
    "positions of more than the tokens": ("positions", positions_of_more),
    # tokens moved
    "a token and the one before": ("slice", shifted),
    "differences of neighbours": ("slice", differences),
    "a token for all": (
        "gather",
        lambda op, ids, x: op.add(x, op.gather(x, op.constant(np.array([0], "i4")), axis=1)),
    ),
    "tokens behind a prefix": ("concat", behind_a_prefix),
    "tokens apart": ("split", lambda op, ids, x: op.add(x, op.split(x, axis=1, sizes=(1, S - 1))[0])),
    "tokens where numbers were": (
        "reshape",
        lambda op, ids, x: op.reshape(op.transpose(x, perm=(0, 2, 1)), shape=(B, S, WIDTH)),
    ),
    "the first token by gather_elements": ("gather_elements", first_of_each),
    # attention
    "attention to tokens that follow": ("attention", lambda op, ids, x: attended(op, x, causal=False)),
    "a mask of an input": ("attention", attention_mask),
    "a mask of positions against positions": ("less_or_equal", mask_by_products),
    "queries twice as many": ("attention", two_queries_a_token),
    "a softmax of a bias over keys": ("softmax", lambda op, ids, x: attended(op, x, op.softmax(alibi(op)))),
    "the sum of a bias over keys": (
        "reduce_sum",
        lambda op, ids, x: with_scores(op, x, op.reduce_sum(alibi(op), axes=(3,))),
    ),
    "the largest bias": ("reduce_max", lambda op, ids, x: with_scores(op, x, op.reduce_max(alibi(op), axes=(3,)))),
    "the last bias": (
        "gather",
        lambda op, ids, x: with_scores(op, x, op.gather(alibi(op), op.constant(np.array([-1], "i4")), axis=3)),
    ),
    # recurrences
    "the last state of a scan": (
        "selective_scan",
        lambda op, ids, x: op.add(x, op.unsqueeze(op.reduce_sum(scan(op, x)[1], axes=(2,), keepdims=False), axes=(1,))),
    ),
    # how many tokens there are
    "the count as a number": ("cast", count_as_a_number),
    "a scan that ends before the last token": (
        "sub",
        lambda op, ids, x: scan(op, x, op.sub(given(op, "count", COUNT, B), op.constant(np.array(1, "i4"))))[0],
    ),
    "the count in another shape": (
        "reshape",
        lambda op, ids, x: op.mul(x, op.cast(op.reshape(given(op, "count", COUNT, B), shape=(B, 1, 1)), to="f32")),
    ),
    "positions below the count": ("unsqueeze", real_tokens),
    "attention that ends before the tokens do": (
        "attention",
        lambda op, ids, x: op.reshape(
            op.attention(*[heads(op, x)] * 3, None, fewer_real(op), scale=0.5, causal=True), shape=(B, S, WIDTH)
        ),
    ),
    "attention to fewer keys than there are, by the count of tokens": ("attention", keys_by_the_count),
    "a scan that ends before the tokens do": ("selective_scan", lambda op, ids, x: scan(op, x, fewer_real(op))[0]),
    # in a graph that a node holds
    "a condition's body that mixes": ("if", lambda op, ids, x: body_that_mixes(op, ids, x, "if")),
    "a loop's body that mixes": ("repeat", lambda op, ids, x: body_that_mixes(op, ids, x, "repeat")),
    # sequences that have come to different lengths
    "a sum over sequences": ("reduce_sum", lambda op, ids, x: op.add(x, op.reduce_sum(x, axes=(0,)))),
    "the first sequence": ("index", lambda op, ids, x: op.add(x, op.index(x, index=0))),
    "attention of sequences": ("matmul", across_the_batch),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_mixes_tokens_is_refused_with_its_node(name: str) -> None:
    refused, build = MIXED[name]
    module = made(build)
    text = str(module)
    with pytest.raises(PassError) as e:
        burnish.optimize(module, "stateful")
    assert f"{refused} cannot go on from step to step: " in str(e.value)
    assert re.search(rf"^  > .* = {refused}\(", str(e.value), re.M), "the node is shown"
    assert str(module) == text


@pytest.mark.parametrize("name", MIXED)
def test_other_passes_do_not_hide_it(name: str) -> None:
    """They may recover what can go on: then it is right."""
    module, ids = made(MIXED[name][1]), models.tokens((3, LENGTH), 32)
    try:
        stateful = burnish.optimize(module, "default,stateful")
    except PassError:
        return
    check_rows(stateful, logits_of(module, ids), ids)


def test_an_op_that_says_nothing_is_refused(registries: None) -> None:
    """As a plugin adds it: an op is never taken to keep tokens apart."""

    class Smooth(Op):
        """x, somehow."""

        def infer(self, x: Type) -> Type:
            return x

        def eval(self, xp: Any, x: Any) -> Any:
            return (x + xp.roll(x, 1, axis=1)) / 2

    with pytest.raises(PassError, match=r"(?s)smooth cannot go on.*  > %1: f32\[B, S, 8\] = smooth\(%0\)"):
        burnish.optimize(made(lambda op, ids, x: op.smooth(x)), "stateful")


def test_a_fixed_number_of_tokens() -> None:
    with pytest.raises(PassError, match=r"reads i32\[B, 11\]: the number of tokens must be a symbol"):
        burnish.optimize(made(lambda op, ids, x: op.silu(x), length=LENGTH), "stateful")


def test_a_fixed_number_of_sequences() -> None:
    """They come to different lengths, and no symbol says which axis is theirs."""
    with pytest.raises(PassError, match=r"reads i32\[3, S\]: the number of sequences must be a symbol, or 1"):
        burnish.optimize(made(lambda op, ids, x: op.silu(x), batch=3), "stateful")


@pytest.mark.parametrize("name", ["past", "count", "k0"])
def test_tokens_that_are_called_as_what_comes_in_besides(name: str) -> None:
    module, ids = made(lambda op, ids, x: attended(op, x)), models.tokens((3, LENGTH), 32)
    expected = logits_of(module, ids)
    module.graphs["forward"].inputs[0].name = name
    check_rows(burnish.optimize(module, "stateful"), expected, ids)


def test_no_token_to_go_on_from() -> None:
    executable = burnish.executable(made(lambda op, ids, x: attended(op, x)))
    with pytest.raises(ValueError, match="there is no token to go on from"):
        executable.prefill(np.zeros((1, 0), "i4"), executable.start(1, 4))


def test_a_number_of_tokens_that_a_table_fixes() -> None:
    """Broadcast against 8 rows, S is assumed to be 8: a step of 8 tokens would begin at the first row again."""
    module = made(lambda op, ids, x: op.add(x, op.constant(numbers(8, WIDTH))))
    assert [str(g) for g in module.guards] == ["equal(S, 8)"]
    with pytest.raises(PassError):
        burnish.optimize(module, "stateful")


# ------------------------------------------------------------------------------------------- models for other tasks


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (Facts(), "it does not say what it is for: state its task"),
        (Facts(task="text-classification"), "its task is text-classification"),
        (Facts(task="feature-extraction"), "its task is feature-extraction"),
    ],
)
def test_a_model_for_another_task_makes_no_text(facts: Facts, message: str) -> None:
    """A causal classifier has logits and could run in steps; its logits are not words."""
    module = made(lambda op, ids, x: attended(op, x))
    module.facts = facts
    executable = burnish.executable(module)
    assert not executable.is_generative
    with pytest.raises(ValueError, match=message):
        executable.start(1, 8)
    with pytest.raises(ValueError, match=message):
        next(executable.generate([1, 2], 3))
    assert executable.forward(np.array([[1, 2, 3]], "i4"))["logits"].shape == (1, 3, 12)


def test_a_classifier_that_takes_the_last_token() -> None:
    def build(op: Any, ids: Value, x: Value) -> Value:
        return op.last_row(attended(op, x), given(op, "count", COUNT, B))

    module = made(build)
    with pytest.raises(PassError, match=r"last_row cannot go on.*mixes the (tokens|sequences) of its operand x"):
        burnish.optimize(module, "stateful")
    module.facts = replace(module.facts, task="text-classification")
    with pytest.raises(ValueError, match="makes no text"):
        burnish.executable(module).start(1, 8)


# ---------------------------------------------------------------------------------------------- not refused, and right

RIGHT: dict[str, Build] = {
    "nothing but the token": lambda op, ids, x: op.silu(x),
    "types of tokens": lambda op, ids, x: op.add(
        x, op.embedding(given(op, "types", TOKEN_TYPES, B, S), op.constant(numbers(2, WIDTH)))
    ),
    "a table of learned positions": lambda op, ids, x: op.add(
        x, op.embedding(op.positions(ids), op.constant(numbers(64, WIDTH)))
    ),
    "positions from the second row of a table": lambda op, ids, x: op.add(
        x, op.embedding(op.add(op.positions(ids), op.constant(np.array(2, "i4"))), op.constant(numbers(64, WIDTH)))
    ),
    "positions that are given": lambda op, ids, x: op.add(
        x, op.gather(op.constant(numbers(64, WIDTH)), given(op, "at", POSITIONS, B, S), axis=0)
    ),
    "a scale that grows with the position": lambda op, ids, x: attended(
        op, op.mul(x, op.log(op.add(op.cast(op.unsqueeze(op.positions(ids), axes=(2,)), to="f32"), 2.0)))
    ),
    "a mask that hides padding": lambda op, ids, x: attended(
        op, op.mul(x, op.unsqueeze(op.cast(given(op, "mask", MASK, B, S), to="f32"), axes=(2,)))
    ),
    "a bias for each head": lambda op, ids, x: attended(op, x, op.constant(numbers(1, 2, 1, 1))),
    "a bias for each head, for all queries and keys": lambda op, ids, x: attended(
        op, x, op.broadcast_to(op.constant(numbers(1, 2, 1, 1)), shape=(1, 2, S, S))
    ),
    "a query that sees nothing, by its token": lambda op, ids, x: attended(
        op, x, op.unsqueeze(op.less(ids, op.constant(np.array(9, "i4"))), axes=(1, 3)), window=3
    ),
    "a bias by distance, altered": lambda op, ids, x: attended(
        op, x, op.tanh(op.mul(alibi(op), op.constant(numbers(1, 2, 1, 1))))
    ),
    "the count, and no other": lambda op, ids, x: op.reshape(
        op.attention(*[heads(op, x)] * 3, None, given(op, "count", COUNT, B), scale=0.5, causal=True),
        shape=(B, S, WIDTH),
    ),
    "a scan that is told the count": lambda op, ids, x: scan(op, x, given(op, "count", COUNT, B))[0],
    "a scan alone": lambda op, ids, x: scan(op, x)[0],
    "tokens and sequences folded, and back": lambda op, ids, x: op.reshape(
        op.linear(op.reshape(x, shape=(B * S, WIDTH)), op.constant(numbers(WIDTH, WIDTH))), shape=(B, S, WIDTH)
    ),
    "heads in front of tokens": lambda op, ids, x: op.reshape(
        op.transpose(op.softmax(op.transpose(heads(op, x), perm=(0, 2, 1, 3))), perm=(0, 2, 1, 3)), shape=(B, S, WIDTH)
    ),
    "one value for every token": lambda op, ids, x: op.add(
        x, op.broadcast_to(op.constant(numbers(WIDTH)), shape=(B, S, WIDTH))
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_looks_alike_is_decoded_right(name: str) -> None:
    module, ids = made(RIGHT[name]), models.tokens((3, LENGTH), 32)
    for pipeline in ("insert-state", "default,stateful"):
        check_rows(burnish.optimize(module, pipeline), logits_of(module, ids), ids)


@pytest.mark.parametrize("name", ["nothing but the token", "a scan alone"])
def test_a_model_that_never_asks_for_the_past_goes_on_from_the_last_token(name: str) -> None:
    """There are no positions and no rows, but still a last row, and a second run changes nothing."""
    module, ids = made(RIGHT[name]), models.tokens((1, 5), 32)
    once = burnish.optimize(module, "insert-state")
    assert str(burnish.optimize(once, "insert-state")) == str(once)
    executable = burnish.executable(module, activations="float")
    logits = executable.prefill(ids, executable.start(1, 8))
    assert np.abs(logits - executable.forward(ids)["logits"][:, -1]).max() < models.WITHIN * np.abs(logits).max()


@pytest.mark.parametrize("symbols", [("C", "S"), ("B", "C"), ("R2", "S"), ("B", "R2")], ids=str)
def test_symbols_that_are_called_as_those_of_states(symbols: tuple[str, str]) -> None:
    """A model's own C is not the capacity, nor its R2 the length of a ring."""

    def build(op: Any, ids: Value, x: Value) -> Value:
        q = op.reshape(x, shape=(*ids.shape, 2, 4))
        y = op.attention(op.attention(q, q, q, scale=0.5, causal=True), q, q, scale=0.5, causal=True, window=3)
        return op.reshape(y, shape=(*ids.shape, WIDTH))

    batch, length = map(Sym, symbols)
    module, ids = made(build, length, batch), models.tokens((3, LENGTH), 32)
    try:
        stateful = burnish.optimize(module, "stateful")
    except PassError as e:
        assert next(s for s in symbols if s not in "BS") in str(e)
        return
    check_rows(stateful, logits_of(module, ids), ids)


# ----------------------------------------------------------------------------------------------------------------- ONNX


def exported(path: Path, positions_first: bool, window: bool = False) -> Any:
    """A decoder as people write it in ONNX: positions by Range, added on the left or on the right, a mask by Where."""
    node, width, size = helper.make_node, 16, 4
    nodes = [
        node("Shape", ["input_ids"], ["shape"], start=1, end=2),
        node("Squeeze", ["shape", "axis0"], ["length"]),
        node("Range", ["zero", "length", "one"], ["range"]),
        node("Unsqueeze", ["range", "axis0"], ["row"]),
        node("Unsqueeze", ["range", "axis1"], ["column"]),
        node("Gather", ["wpe", "row"], ["at"], axis=0),
        node("Gather", ["wte", "input_ids"], ["token"], axis=0),
        node("Add", ["at", "token"] if positions_first else ["token", "at"], ["x"]),
    ]
    for k in "qkv":
        nodes += [
            node("MatMul", ["x", f"w{k}"], [f"{k}0"]),
            node("Reshape", [f"{k}0", "heads"], [f"{k}1"]),
            node("Transpose", [f"{k}1"], [f"{k}2"], perm=[0, 2, 1, 3]),
        ]
    nodes += [
        node("Transpose", ["k2"], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q2", "kt"], ["scores"]),
        node("LessOrEqual", ["row", "column"], ["causal"]),
        node("Sub", ["column", "row"], ["distance0"]),
        node("Sub", ["distance0", "three"], ["distance"]),  # a window of 3 + 9, which no constant says
        node("Less", ["distance", "nine"], ["near"]),
        node("And", ["causal", "near"], ["window"]),
        node("Where", ["window" if window else "causal", "nothing", "hidden"], ["mask"]),
        node("Add", ["scores", "mask"], ["masked"]),
        node("Softmax", ["masked"], ["p"], axis=-1),
        node("MatMul", ["p", "v2"], ["o"]),
        node("Transpose", ["o"], ["o1"], perm=[0, 2, 1, 3]),
        node("Reshape", ["o1", "joined"], ["o2"]),
        node("MatMul", ["o2", "head"], ["logits"]),
    ]
    constants: dict[str, Any] = {k: numbers(width, width) / 4 for k in ("wq", "wk", "wv")}
    constants |= {"wpe": numbers(64, width), "wte": numbers(33, width), "head": numbers(width, 33), "zero": np.array(0)}
    constants |= {"one": np.array(1), "three": np.array(3), "nine": np.array(9), "axis0": np.array([0])}
    constants |= {
        "axis1": np.array([1]),
        "heads": np.array([0, 0, size, width // size]),
        "joined": np.array([0, 0, -1]),
    }
    constants |= {"nothing": np.array(0, "f4"), "hidden": np.array(-3.4e38, "f4")}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "s"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "s", 33])],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return model


def as_text(path: Path) -> Module:
    """A file of ONNX does not say what it is for."""
    module = load_onnx(path)
    assert not burnish.executable(module).is_generative
    (logits,) = module.graphs["forward"].outputs.values()
    module.graphs["forward"].set_outputs({"logits": logits}, {"logits": LOGITS})
    module.facts = replace(module.facts, task="text-generation")
    return module


@pytest.mark.parametrize("positions_first", [True, False], ids=["positions + tokens", "tokens + positions"])
def test_positions_of_an_onnx_file_count_from_the_past(positions_first: bool, tmp_path: Path) -> None:
    """sonos/torch-to-nnef#217: in decoding, the sum of both was read as if every token were the first."""
    model = exported(tmp_path / "m.onnx", positions_first)
    module, ids = as_text(tmp_path / "m.onnx"), models.tokens((3, LENGTH), 33)
    (expected,) = ReferenceEvaluator(model).run(None, {"input_ids": ids.astype("i8")})
    with pytest.raises(PassError, match="cannot go on from step to step"):
        burnish.optimize(module, "stateful")  # as it was imported: positions by iota
    check_rows(burnish.optimize(module, "default,stateful"), expected, ids)


def test_a_mask_that_is_causal_for_few_tokens_only(tmp_path: Path) -> None:
    """A window wider than any step: what is concluded of a mask must hold for all tokens, not for those of a step."""
    model = exported(tmp_path / "m.onnx", positions_first=True, window=True)
    module, ids = as_text(tmp_path / "m.onnx"), models.tokens((3, 19), 33)
    (expected,) = ReferenceEvaluator(model).run(None, {"input_ids": ids.astype("i8")})
    try:
        runner = make_backend("numpy", burnish.optimize(module, "default,stateful"))
        found = logits_by_steps(runner, "forward", ids.tolist(), [[5] * 3, [5] * 3, [5] * 3, [4] * 3])
    except ValueError:
        return  # which is the answer where the guard of the mask is asked about all tokens
    for (b, i), row in found.items():
        assert np.abs(row - expected[b, i]).max() < models.WITHIN * np.abs(expected).max(), (b, i)


@pytest.mark.onnx
@pytest.mark.parametrize("family", ["LlamaForCausalLM", "Qwen2ForCausalLM"])
def test_scaled_rotations_of_an_onnx_file(family: str, tmp_path: Path) -> None:
    """YaRN multiplies cos and sin by a number, which no rope does: they are made of positions all the same."""
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
    sizes = {"vocab_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64} | models.SIZES
    oracle, ids = models.made(family, rope_parameters=yarn, **sizes), models.tokens((3, LENGTH))
    module = burnish.optimize(load_onnx(models.exported(oracle, tmp_path / "m.onnx")))
    stateful = burnish.optimize(module, "stateful")
    check_rows(stateful, models.logits_of(oracle, input_ids=ids), ids)
