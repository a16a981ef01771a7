"""Attention, positions and caches."""

import numpy as np
import pytest

from burnish.ir import OPS, InferError, Type
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


def test_what_does_not_fit_is_refused() -> None:
    q, k = Type("f32", (2, 3, 4, 8)), Type("f32", (2, 6, 2, 8))
    ids, three = Type("i32", (2, 5)), Type("i32", (3,))
    refused = [
        (ATTENTION, (q, Type("f32", (2, 6, 3, 8)), Type("f32", (2, 6, 3, 8))), "do not share"),
        (ATTENTION, (q, k, Type("f32", (2, 7, 2, 8))), "6 against 7"),
        (ATTENTION, (q, k, Type("bf16", k.shape)), "differ in element type"),
        (ATTENTION, (q, k, k, three), "2 against 3"),
        (ATTENTION, (q, k, k, None, None, Type("i32", (1, 1, 1, 6))), "neither a float bias nor a mask"),
        (op("attention", scale=1.0, window=4), (q, k, k), "needs causal"),
        (op("cache_update"), (k, q, Type("i32", (2,))), "does not fit"),
        (op("cache_update"), (k, k, three), "2 against 3"),
        (op("positions"), (ids, three), "2 against 3"),
        (op("last_row"), (q, three), "2 against 3"),
        (op("rope"), (q, Type("i32", (2, 3)), Type("f32", (5,))), "more frequencies"),
        (op("relative_bias", query=2, key=2, bidirectional=True), (Type("f32", (3, 2)),), "has not the buckets"),
    ]
    for wrong, operands, message in refused:
        with pytest.raises(InferError, match=message):
            wrong.results(*operands)
