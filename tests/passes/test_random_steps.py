"""Random graphs in steps: each is refused, or decoded as it is computed at once. `make fuzz` tries many more."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

import burnish
from burnish.backends.binding import BindError
from burnish.backends.target import make_backend
from burnish.ir import InferError, Module, Type, Value, verify
from burnish.ir.dims import Dim, Sym
from burnish.ir.signature import COUNT, LOGITS, POSITIONS, TOKENS, Facts
from burnish.ir.state import INDEPENDENT
from burnish.passes.engine import PassError
from burnish.runtime.session import Session, feed

B, S = Sym("B"), Sym("S")
LENGTH, WIDTH = 8, 8
WAYS = ([[1, 1, 1]] * 8, [[3, 3, 3], [3, 3, 3], [2, 2, 2]], [[3, 1, 5], [2, 4, 0], [0, 2, 2], [3, 1, 1]], [[8, 8, 8]])
ELEMENTWISE = {1: ("neg", "tanh", "sigmoid", "silu", "abs"), 2: ("add", "sub", "mul", "maximum", "minimum")}


class Builder:
    """Ops on what there is already, all axes and sizes drawn; what does not type-check is drawn again."""

    def __init__(self, seed: int) -> None:
        self.draw, self.numbers = random.Random(seed), np.random.default_rng(seed)
        self.module = Module(facts=Facts(task="text-generation"))
        self.graph = self.module.graph("forward")
        self.op: Any = self.graph.ops
        self.batch: Dim = self.draw.choice([B, B, B, 1])
        self.ids = self.graph.input("ids", Type("i32", (self.batch, S)), TOKENS)
        self.x = self.op.embedding(self.ids, self.floats(16, WIDTH))
        self.pool = [
            self.ids,
            self.x,
            self.op.reshape(self.x, shape=(self.batch, S, 2, 4)),
            self.op.positions(self.ids),
        ]
        for name, role, shape in (("count", COUNT, (self.batch,)), ("at", POSITIONS, (self.batch, S))):
            if self.draw.random() < 0.15:
                self.pool.append(self.graph.input(name, Type("i32", shape), role))

    def floats(self, *shape: int) -> Value:
        return self.op.constant(self.numbers.standard_normal(shape).astype("f4"))

    def some(self, dtype: str = "f32", least: int = 0) -> Value:
        """A value of the type and at least so many axes, one of the last four if possible."""
        found = [v for v in self.pool if v.dtype == dtype and v.type.rank >= least]
        return self.draw.choice(found[-4:] if self.draw.random() < 0.7 else found)

    def axis(self, v: Value) -> int:
        return self.draw.randrange(v.type.rank)

    def elementwise(self) -> Value:
        n, v = self.draw.choice([1, 2, 2]), self.some()
        other = self.some() if self.draw.random() < 0.6 else self.floats(*self.draw.choice([(), (1,), (2, 1, 1)]))
        return getattr(self.op, self.draw.choice(ELEMENTWISE[n]))(*[v, other][:n])

    def whole_numbers(self) -> Value:
        a, b = self.some("i32"), self.some("i32")
        return self.draw.choice(
            [
                lambda: self.op.cast(a, to="f32"),
                lambda: self.op.add(a, b),
                lambda: self.op.where(self.op.less(a, b), self.some(), self.floats()),
                lambda: self.op.embedding(a, self.floats(24, self.draw.choice([1, WIDTH]))),
                lambda: self.op.iota(size=self.draw.choice([S, 2, S + 1])),
            ]
        )()

    def moved(self) -> Value:
        v = self.some(least=1)
        shape, axes = list(v.shape), list(range(v.type.rank))
        i, self_made = self.axis(v), list[Dim]((self.batch, S, 2, 1))
        self.draw.shuffle(axes)
        merged = [*shape[:i], *([shape[i] * shape[i + 1]] if i + 1 < len(shape) else []), *shape[i + 2 :]]
        wider = [self.draw.choice(self_made) if d == 1 else d for d in shape]
        others = [
            (self.batch * S, -1),
            (self.batch, S, -1),
            (self.batch, 2 * S, -1),
            (self.batch, -1, S),
            (-1, S, WIDTH),
        ]
        return self.draw.choice(
            [
                lambda: self.op.reshape(v, shape=tuple(merged)),
                lambda: self.op.reshape(v, shape=self.draw.choice(others)),
                lambda: self.op.transpose(v, perm=tuple(axes)),
                lambda: self.op.unsqueeze(v, axes=(i,)),
                lambda: self.op.broadcast_to(v, shape=(self.draw.choice(self_made), *wider)),
                lambda: self.op.concat(v, self.some(least=1), axis=i),
            ]
        )()

    def cut(self) -> Value:
        v = self.some(least=1)
        i, d = self.axis(v), v.shape[self.axis(v)]
        start, stop = self.draw.choice([(0, 1), (1, d), (0, d - 1), (d - 1, d), (0, S), (S - 1, S)])
        at = self.op.constant(np.array(self.draw.choice([[0], [-1], [1, 0]]), "i4"))
        near = self.op.constant(self.numbers.integers(0, 2, [self.draw.choice([1, 2])] * v.type.rank).astype("i4"))
        return self.draw.choice(
            [
                lambda: self.op.slice(v, axis=i, start=start, stop=stop),
                lambda: self.op.slice(self.floats(24, WIDTH), axis=0, start=0, stop=S),
                lambda: self.op.split(v, axis=i, sizes=(1, d - 1))[1],
                lambda: self.op.gather(v, self.draw.choice([at, self.some("i32")]), axis=i),
                lambda: self.op.gather_elements(v, near, axis=i),
                lambda: self.op.index(v, index=0),
            ]
        )()

    def summed(self) -> Value:
        v = self.some(least=1)
        name, i = self.draw.choice(["reduce_sum", "reduce_mean", "reduce_max"]), self.axis(v)
        return self.draw.choice(
            [
                lambda: getattr(self.op, name)(v, axes=(i,), keepdims=self.draw.random() < 0.7),
                lambda: self.op.softmax(v, axis=i),
                lambda: self.op.cumulative_sum(v, axis=i),
                lambda: self.op.matmul(v, self.some(least=2)),
                lambda: self.op.linear(v, self.floats(WIDTH, v.shape[-1])),
                lambda: self.op.rms_norm(v, self.floats(v.shape[-1]), eps=0.1),
            ]
        )()

    def mixed(self) -> Value:
        count = self.graph.input_for(COUNT) if self.draw.random() < 0.5 else None
        x, window = self.some(least=3), self.draw.choice([0, 0, 1, 2, 3, 20])
        q = x if x.type.rank == 4 else self.op.reshape(x, shape=(*x.shape[:2], 2, -1))
        k, bias = self.draw.choice([q, self.pool[2]]), self.draw.choice([None, self.some()])
        how = {"scale": 0.5, "causal": window > 0 or self.draw.random() < 0.9, "window": window}
        size, a = self.draw.choice([1, 2, 4]), self.op.constant(-np.exp(self.numbers.standard_normal((WIDTH, 2), "f4")))
        pair = self.op.linear(self.x, self.floats(2, WIDTH))
        return self.draw.choice(
            [
                lambda: self.op.attention(q, k, k, None, count, bias, **how),
                lambda: self.op.attention(q, k, k, None, count, **how),
                lambda: self.op.alibi(self.floats(2), query=S, key=self.draw.choice([S, S, S + 1, 1])),
                lambda: self.op.relative_bias(self.floats(8, 2), query=S, key=S, bidirectional=True, max_distance=20),
                lambda: self.op.causal_conv(x, self.floats(x.shape[-1], size)),
                lambda: self.op.selective_scan(x, self.op.sigmoid(x), a, pair, pair, None, None, count)[size == 4],
                lambda: self.op.rope(q, self.some("i32", least=2), self.floats(2)),
            ]
        )()

    def logits(self, v: Value) -> Value:
        """The value as [B, S, n], axes that it lacks broadcast; of two axes of tokens, the largest along one."""
        if v.dtype != "f32":
            v = self.op.cast(v, to="f32")
        while v.shape.count(S) > 1:
            v = self.op.reduce_max(v, axes=(v.type.rank - 1 - v.shape[::-1].index(S),), keepdims=False)
        for at, d in enumerate((self.batch, S)):
            if d not in v.shape[at:]:
                v = self.op.unsqueeze(v, axes=(at,))
            else:
                order = list(range(v.type.rank))
                order.insert(at, order.pop(v.shape.index(d, at)))
                v = self.op.transpose(v, perm=tuple(order))
        while v.type.rank > 3:
            v = self.op.reduce_sum(v, axes=(3,), keepdims=False)
        v = self.op.unsqueeze(v, axes=(2,)) if v.type.rank == 2 else v
        return self.op.add(v, self.op.slice(self.x, axis=2, start=0, stop=1))


def random_module(seed: int) -> Module | None:
    """None where nothing came of it."""
    b = Builder(seed)
    kinds = [b.elementwise, b.elementwise, b.whole_numbers, b.moved, b.moved, b.cut, b.summed, b.mixed, b.mixed]
    made = 0
    for _ in range(40):
        try:
            v = b.draw.choice(kinds)()
        except (InferError, IndexError, TypeError, ValueError):  # of what was drawn for it
            continue
        if v.type.rank <= 5:
            b.pool.append(v)
            made += 1
        if made == seed % 6 + 1:
            break
    for v in reversed(b.pool):
        try:
            out = b.logits(v)
        except (InferError, ValueError):
            continue
        if v is not b.x and out.shape[:2] == (b.batch, S) and isinstance(out.shape[2], int):
            b.graph.set_outputs({"logits": out}, {"logits": LOGITS})
            b.graph.erase_dead(list(b.graph))
            b.module.normalize()
            verify(b.module)
            return b.module
    return None


def verdict(seed: int) -> str:
    """`none`, `refused` or `right`; an AssertionError where a step gives another number."""
    module = random_module(seed)
    if module is None:
        return "none"
    graph = module.graphs["forward"]
    batch = 3 if graph.inputs[0].shape[0] == B else 1
    ids, zeros = np.random.default_rng(seed).integers(0, 16, (batch, LENGTH)).astype("i4"), np.zeros(batch, "i4")
    try:
        expected = make_backend("numpy", module)("forward", feed(graph, ids, zeros + LENGTH, zeros))["logits"]
    except ValueError:
        return "none"  # it is one for other sizes, or takes the largest of nothing
    largest = np.abs(expected).max(initial=0)
    if not np.isfinite(expected).all() or not largest:
        return "none"
    try:
        runner = make_backend("numpy", burnish.optimize(module, "insert-state"))
    except PassError:
        return "refused"
    for way in WAYS:
        session = Session.start(runner, "forward", batch, LENGTH)
        for counts in (row[:batch] for row in way if any(row[:batch])):
            past, new = session.past.copy(), np.zeros((batch, max(counts)), "i4")
            for b, n in enumerate(counts):
                new[b, :n] = ids[b, past[b] : past[b] + n]
            try:
                found = session.step(new, np.array(counts, "i4"))["logits"]
            except BindError:
                return "refused"  # by a guard: it is one for other sizes
            for b, n in enumerate(counts):
                apart = np.abs(found[b, :n] - expected[b, past[b] : past[b] + n]).max(initial=0) / largest
                assert apart < 1e-4, f"seed {seed}, {counts} behind {past}: {apart:.1e} of the largest\n{module}"
    return "right"


@pytest.mark.parametrize(
    "seeds", [pytest.param(range(400), id="some"), pytest.param(range(400, 10400), id="many", marks=pytest.mark.fuzz)]
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_random_graph_is_refused_or_right(seeds: range) -> None:
    found = Counter(map(verdict, seeds))
    assert min(found["refused"], found["right"]) > len(seeds) // 10, found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_it_finds_what_is_taken_to_be_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.passes.insert_state.in_steps", lambda op, node, state: INDEPENDENT)
    with pytest.raises(AssertionError, match=r"seed \d+, .* of the largest"):
        for seed in range(100):
            verdict(seed)
