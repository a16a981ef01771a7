"""States written where they lie: the bytes that `evaluate` gives, and nothing else."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.backends.interpreter import Interpreter
from burnish.backends.kernels import KERNELS, find_kernel
from burnish.backends.native.cpu import instruction_sets
from burnish.ir.op import find_op
from burnish.ir.parser import parse
from burnish.ir.types import Type
from tests.backends.kernels.guarded import BOTH, LAYOUTS, call_kernel, lying

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="this CPU runs no native code")
DTYPES = st.sampled_from(["f4", "f2", "i1"])


def numbers(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return random.integers(-100, 100, shape).astype(dtype)


@given(st.data())
def test_a_cache(data: st.DataObject) -> None:
    batch, rows, tokens, heads, n = data.draw(st.tuples(*(st.integers(0, 4) for _ in range(5))))
    random, dtype = np.random.default_rng(data.draw(st.integers(0, 99))), data.draw(DTYPES)
    cache = numbers(random, (batch, rows, heads, n), dtype)
    new = lying(numbers(random, (batch, tokens, heads, n), dtype), data.draw(st.sampled_from(LAYOUTS)))
    past = lying(random.integers(0, rows + 3, batch).astype("i4"), data.draw(st.sampled_from(LAYOUTS)))
    op = find_op("cache_update")()
    expected = op.eval(np, cache, new, past)
    for isa in BOTH:
        (found,) = call_kernel(
            KERNELS["cache_update.in_place"], op, cache, new, past, isa=isa, at_end=data.draw(st.booleans())
        )
        assert np.array_equal(found, expected)


@given(st.data())
def test_a_ring(data: st.DataObject) -> None:
    batch, rows, tokens = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 9)))
    inner = tuple(data.draw(st.lists(st.integers(0, 3), max_size=2)))
    random, dtype = np.random.default_rng(data.draw(st.integers(0, 99))), data.draw(DTYPES)
    ring = numbers(random, (batch, rows, *inner), dtype)
    new = lying(numbers(random, (batch, tokens, *inner), dtype), data.draw(st.sampled_from(LAYOUTS)))
    past, count = random.integers(0, 20, batch).astype("i4"), random.integers(0, tokens + 2, batch).astype("i4")
    op = find_op("ring_update")()
    expected = op.eval(np, ring, new, past, count)
    for isa in BOTH:
        found = call_kernel(
            KERNELS["ring_update.in_place"], op, ring, new, past, count, isa=isa, at_end=data.draw(st.booleans())
        )
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_packed_cache_is_refused() -> None:
    packed = Type("q8_0", (1, 4, 2, 32))
    reason = "cache_update.in_place: q8_0[1, 4, 2, 32] is packed"
    assert find_kernel(find_op("cache_update")(), [packed, packed, Type("i32", (1,))]) == (None, reason)


STEP = """module {
  graph forward(%ids: i32[B, S] is tokens, %x: f32[B, S, 2, 8], %inv: f32[4], %past: i32[B] is past,
                %cache: f32[B, C, 2, 8] is rows(batch=0, axis=1)) {
    %0: i32[B, S] = positions(%ids, %past) <- "a"
    %1: f32[B, S, 2, 8] = rope(%x, %0, %inv) <- "b"
    %2: f32[B, C, 2, 8] = cache_update(%cache, %1, %past) <- "c"
    return cache=%2
  }
}"""


def functions_by_phase(plan: Any) -> list[list[str]]:
    return [[c.function for c in phase.calls] for part in plan.parts for phase in part.program.phases]


def test_a_token_s_rows_follow_each_other_in_one_phase() -> None:
    """Positions, angles, rotation and cache; the cache is written in place."""
    runner = Interpreter(parse(STEP))
    graph = runner.module.graphs["forward"]
    plan = runner.plan(graph, {"B": 2, "S": 3, "C": 6})
    assert functions_by_phase(plan) == [["positions", "table", "halves", "update"]]
    random = np.random.default_rng(0)
    cache, x = np.zeros((2, 6, 2, 8), "f4"), random.standard_normal((2, 3, 2, 8), "f4")
    given = {"ids": np.zeros((2, 3), "i4"), "x": x, "inv": np.ones(4, "f4"), "past": np.array([1, 2], "i4")}
    found = runner("forward", {**given, "cache": cache})["cache"]
    assert found is cache
    reference = Interpreter(runner.module, kernels={})("forward", {**given, "cache": np.zeros_like(cache)})["cache"]
    assert np.abs(found - reference).max() < 4 * 2.0**-24 * np.abs(x).max()


READ = """module {
  graph forward(%x: f32[B, S, 1, 8] , %past: i32[B] is past, %cache: f32[B, C, 1, 8] is rows(batch=0, axis=1)) {
    %0: f32[B, C, 1, 8] = cache_update(%cache, %x, %past) <- "a"
    %1: f32[B, C, 1, 8] = silu(%0) <- "b"
    return cache=%0, y=%1
  }
}"""


def test_who_reads_a_cache_of_as_many_rows_as_tokens_waits_for_all_of_them() -> None:
    """Row i of it is not that of token i."""
    runner = Interpreter(parse(READ))
    plan = runner.plan(runner.module.graphs["forward"], {"B": 1, "S": 3, "C": 3})
    assert functions_by_phase(plan) == [["update"], ["silu.f32"]]


WINDOW = """module {
  graph forward(%q: f32[B, S, 4, 8], %k: f32[B, S, 2, 8], %v: f32[B, S, 2, 8], %past: i32[B] is past,
                %count: i32[B] is count, %keys: f32[B, R, 2, 8] is ring(batch=0, axis=1, most=6),
                %values: f32[B, R, 2, 8] is ring(batch=0, axis=1, most=6)) {
    %0, %1: f32[B, R, 2, 8], f32[B, R, 2, 8] = ring_update(%keys, %k, %past, %count) <- "k"
    %2, %3: f32[B, R, 2, 8], f32[B, R, 2, 8] = ring_update(%values, %v, %past, %count) <- "v"
    %4: f32[B, S, 4, 8] = attention(%q, %k, %v, %past, _, _, %1, %3, scale=0.3, causal=true, window=7) <- "attention"
    %5: f32[B, R, 2, 8] = neg(%1) <- "reader"
    return keys=%0, values=%2, y=%4, before=%5
  }
}"""
RINGS = ("keys", "values")


@pytest.mark.parametrize("reader", ["a kernel", "NumPy"])
@pytest.mark.parametrize("tokens", [1, 2, 5, 6, 9])
def test_what_a_ring_held_is_read_where_it_lies(tokens: int, reader: str) -> None:
    """Over many steps, of sequences of which each goes on by other numbers of tokens."""
    module = parse(WINDOW)
    random, batch = np.random.default_rng(0), 3
    kernels = {name: k for name, k in KERNELS.items() if k.op != "neg" or reader == "a kernel"}
    runners = [
        Interpreter(module, check=check, kernels=k) for check, k in ((False, kernels), (True, kernels), (True, {}))
    ]
    states = [{name: np.zeros((batch, 6, 2, 8), "f4") for name in RINGS} for _ in runners]
    past = np.zeros(batch, "i4")
    for _ in range(12):
        count = random.integers(0, tokens + 1, batch).astype("i4")
        heads = {"q": 4, "k": 2, "v": 2}
        step = {n: random.standard_normal((batch, tokens, h, 8), "f4") for n, h in heads.items()}
        found = [
            r("forward", {**step, "past": past, "count": count, **s}) for r, s in zip(runners, states, strict=True)
        ]
        for name in (*RINGS, "before"):
            assert np.array_equal(found[0][name], found[2][name]) and np.array_equal(found[1][name], found[2][name])
        for b in range(batch):
            a, checked, reference = (f["y"][b, : count[b]] for f in found)
            assert np.array_equal(a, checked)
            assert np.abs(a - reference).max(initial=0) < 1e-6
        states, past = [{name: f[name] for name in RINGS} for f in found], past + count


def test_nothing_of_a_ring_is_copied_but_the_rows_that_are_overwritten() -> None:
    text = "\n".join(line for line in WINDOW.splitlines() if "neg" not in line)
    runner = Interpreter(parse(text.replace(", before=%5", "")))
    graph = runner.module.graphs["forward"]
    phases = functions_by_phase(runner.plan(graph, {"B": 2, "S": 3, "R": 6}))
    assert [p for p in phases if "before" in p or "ring" in p] == [["ring", "ring"]]
    phases = functions_by_phase(runner.plan(graph, {"B": 2, "S": 6, "R": 6}))
    assert [p for p in phases if "before" in p or "ring" in p] == [["before"], ["ring"], ["before"], ["ring"]]
