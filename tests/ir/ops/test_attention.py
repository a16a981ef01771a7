"""Attention, positions and caches."""

import numpy as np
import pytest

from burnish.ir import OPS, InferError, Type
from burnish.ir.dims import Sym
from burnish.testing import check_op, run_jax, run_numpy
from tests.ir.oracles import ORACLES, apart, attended, family, normal, op


@pytest.mark.parametrize("name", family("ops.attention"))
def test_an_op_obeys_the_laws(name: str) -> None:
    check_op(OPS[name], *ORACLES[name])


ATTENTION = op("attention", scale=0.5)


def test_a_token_that_sees_no_key_gets_zeros() -> None:
    q, k, v = normal(1, 2, 2, 4), normal(1, 3, 2, 4), normal(1, 3, 2, 4)
    for run in (run_numpy, run_jax):
        (y,) = run(ATTENTION, [q, k, v, None, np.zeros(1, "i4")])
        assert not y.any()


@pytest.mark.parametrize("window", [1, 3, 9])
def test_a_window_both_ways(window: int) -> None:
    """Not causal, a token reaches as far ahead as back: that of a mask which says so."""
    q, k, v = (np.random.default_rng(i).standard_normal((2, 6, 2, 4)).astype("f4") for i in range(3))
    at = np.arange(6)
    mask = (np.abs(at[:, None] - at) < window)[None, None]
    scores = np.where(mask, np.einsum("bshd,bthd->bhst", q.astype("f8"), k) * 0.5, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.einsum("bhst,bthd->bshd", p / p.sum(-1, keepdims=True), v)
    for run in (run_numpy, run_jax):
        (y,) = run(op("attention", scale=0.5, window=window), [q, k, v])
        assert np.abs(y - expected).max() < 64 * np.finfo("f4").eps


def test_pairs_that_are_neighbours_are_rotated_as_complex_numbers() -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 3, 8)).astype("f4")
    positions, inv_freq = np.arange(5, dtype="i4")[None] + np.zeros((2, 1), "i4"), np.array([1, 0.1, 0.01], "f4")
    turned = (x[..., 0:6:2] + 1j * x[..., 1:6:2]) * np.exp(1j * positions[:, :, None, None] * inv_freq.astype("f8"))
    expected = np.concatenate([np.stack([turned.real, turned.imag], -1).reshape(2, 5, 3, 6), x[..., 6:]], -1)
    for run in (run_numpy, run_jax):
        (y,) = run(op("rope", interleaved=True), [x, positions, inv_freq])
        assert np.abs(y - expected).max() < 64 * np.finfo("f4").eps


def test_prefill_in_chunks_is_prefill_at_once() -> None:
    q, k, v = normal(1, 6, 2, 4), normal(1, 6, 2, 4), normal(1, 6, 2, 4)
    causal = attended(0.5, q, k, v, causal=True)
    (whole,) = run_numpy(causal.op, causal.inputs)
    parts = [run_numpy(causal.op, [q[:, i : i + 2], k, v, np.array([i], "i4")])[0] for i in (0, 2, 4)]
    assert (np.abs(np.concatenate(parts, axis=1) - whole) <= apart(causal)).all()


def test_writes_beyond_the_capacity_are_dropped_alike() -> None:
    cache, new = np.zeros((2, 4, 1, 1), "f4"), np.ones((2, 3, 1, 1), "f4")
    for run in (run_numpy, run_jax):
        (y,) = run(op("cache_update"), [cache, new, np.array([2, 4], "i4")])
        assert y[:, :, 0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 0, 0]]
        assert not cache.any()


def test_a_cache_can_be_written_in_place() -> None:
    cache, new = normal(2, 4, 1, 3), normal(2, 2, 1, 3)
    past = np.array([1, 3], "i4")
    (copied,) = run_numpy(op("cache_update"), [cache, new, past])
    assert op("cache_update").overwrite(cache, new, past) is cache
    assert np.array_equal(cache, copied)


def test_a_ring_and_the_rows_before_are_a_whole_cache() -> None:
    """A window of 4 by way of a ring of 3 rows, fed in steps that are shorter and longer than it."""
    local = op("attention", scale=0.5, causal=True, window=4)
    q, k, v = normal(2, 12, 2, 4), normal(2, 12, 1, 4), normal(2, 12, 1, 4)
    (whole,) = run_numpy(local, [q, k, v])
    rings, past = [np.full((2, 3, 1, 4), np.nan, "f4")] * 2, np.zeros(2, "i4")
    for counts in ([1, 5], [2, 0], [5, 1], [1, 1], [3, 5]):
        tokens = [[row[p : p + 5] for row, p in zip(x, past, strict=True)] for x in (q, k, v)]
        padded = [np.stack([np.pad(r, ((0, 5 - len(r)), (0, 0), (0, 0))) for r in rows]) for rows in tokens]
        count = np.array(counts, "i4")
        (rings[0], k_before), (rings[1], v_before) = (
            run_numpy(op("ring_update"), [ring, new, past, count]) for ring, new in zip(rings, padded[1:], strict=True)
        )
        (y,) = run_numpy(local, [*padded, past, None, None, k_before, v_before])
        for b, n in enumerate(counts):
            assert np.allclose(y[b, :n], whole[b, past[b] : past[b] + n], rtol=1e-6, atol=1e-6)
        past = past + count
    assert past.tolist() == [12, 12]


def test_symbols_may_stand_for_rows() -> None:
    b, r, s = Sym("B"), Sym("R"), Sym("S")
    ring, new, counts = Type("f32", (b, r, 2, 4)), Type("f32", (b, s, 2, 4)), Type("i32", (b,))
    assert op("ring_update").results(ring, new, counts, counts) == (ring, ring)
    local = op("attention", scale=1.0, causal=True, window=3)
    assert local.results(new, new, new, counts, None, None, ring, ring) == (new,)


def test_what_does_not_fit_is_refused() -> None:
    q, k = Type("f32", (2, 3, 4, 8)), Type("f32", (2, 6, 2, 8))
    ids, two, three = Type("i32", (2, 5)), Type("i32", (2,)), Type("i32", (3,))
    one = Type("f32", (1, 3, 2, 8))
    refused = [
        (ATTENTION, (q, Type("f32", (2, 6, 3, 8)), Type("f32", (2, 6, 3, 8))), "do not share"),
        (ATTENTION, (q, k, Type("f32", (2, 7, 2, 8))), "6 against 7"),
        (ATTENTION, (q, k, Type("bf16", k.shape)), "differ in element type"),
        (ATTENTION, (q, k, k, three), "2 against 3"),
        (ATTENTION, (q, k, k, None, None, Type("i32", (1, 1, 1, 6))), "neither a float bias nor a mask"),
        (op("attention", scale=1.0, window=4), (q, k, k, two), "has no past"),
        (op("attention", scale=1.0, window=-4), (q, k, k), "is negative"),
        (ATTENTION, (q, k, k, None, None, Type("f32", (3, 2, 1, 3, 6))), "does not broadcast"),
        (ATTENTION, (one, one, one, None, None, Type("bool", (2, 1, 3, 3))), "does not broadcast"),
        (op("attention", scale=1.0, softcap=-1.0), (q, k, k), "is negative"),
        (ATTENTION, (q, k, k, two, None, None, k), "come together"),
        (ATTENTION, (q, k, k, None, None, None, k, k), "needs past"),
        (ATTENTION, (q, k, k, two, None, Type("f32", (6,)), k, k), "varies along keys"),
        (ATTENTION, (q, k, k, two, None, None, k, q), "does not stand before"),
        (ATTENTION, (q, k, k, two, None, None, k, Type("f32", (2, 5, 2, 8))), "6 against 5"),
        (op("ring_update"), (k, q, two, two), "does not fit"),
        (op("ring_update"), (k, k, two, Type("i64", (2,))), "are not counts"),
        (op("ring_update"), (k, k, two, three), "2 against 3"),
        (op("alibi", query=2, key=2), (Type("f32", (3, 2)),), "are not slopes"),
        (op("cache_update"), (k, q, two), "does not fit"),
        (op("cache_update"), (k, k, three), "2 against 3"),
        (op("positions"), (ids, three), "2 against 3"),
        (op("last_row"), (q, three), "2 against 3"),
        (op("last_row"), (Type("f32", (3, 0, 4)), three), "has no row: 1 is more than 0"),
        (op("rope"), (one, ids, Type("f32", (4,))), "3 against 5"),
        (op("rope"), (one, Type("i32", (2, 3)), Type("f32", (4,))), "rope"),
        (op("rope"), (q, Type("i32", (2, 3)), Type("f32", (5,))), "more frequencies"),
        (op("rope"), (q, Type("i32", (2, 3)), Type("f32", (3, 4))), "3 against 2|2 against 3"),
        (op("relative_bias", query=2, key=2, bidirectional=True), (Type("f32", (3, 2)),), "has not the buckets"),
    ]
    for wrong, operands, message in refused:
        with pytest.raises(InferError, match=message):
            wrong.results(*operands)


@pytest.mark.parametrize("sinks", [Type("f32", (3,)), Type("f32", (4, 1)), Type("i32", (4,))])
def test_each_head_has_a_sink(sinks: Type) -> None:
    q, k = Type("f32", (2, 3, 4, 8)), Type("f32", (2, 6, 2, 8))
    with pytest.raises(InferError, match="not one of each of 4 heads"):
        ATTENTION.results(q, k, k, None, None, None, None, None, sinks)
