"""Recurrences over tokens."""

import numpy as np
import pytest

from burnish.ir import OPS, InferError, Type
from burnish.testing import check_op, run_jax, run_numpy
from tests.ir.oracles import ORACLES, SCANNED, family, normal, op


@pytest.mark.parametrize("name", family("ops.recurrence"))
def test_an_op_obeys_the_laws(name: str) -> None:
    check_op(OPS[name], *ORACLES[name])


def test_a_sequence_in_parts_is_the_sequence_at_once() -> None:
    x, dt, a, b, c = SCANNED
    w = normal(5, 4)
    (convolved,), (y, h) = run_numpy(op("causal_conv"), [x, w]), run_numpy(op("selective_scan"), [*SCANNED])
    before, state = np.zeros((2, 3, 5), "f4"), np.zeros((2, 5, 3), "f4")
    for i, j in ((0, 1), (1, 3), (3, 6)):
        (part,) = run_numpy(op("causal_conv"), [x[:, i:j], w, None, before])
        before = np.concatenate([before, x[:, i:j]], axis=1)[:, -3:]
        assert np.allclose(part, convolved[:, i:j], rtol=1e-6, atol=1e-6)
        given = [x[:, i:j], dt[:, i:j], a, b[:, i:j], c[:, i:j], None, state]
        part, state = run_numpy(op("selective_scan"), given)
        assert np.allclose(part, y[:, i:j], rtol=1e-6, atol=1e-6)
    assert np.allclose(state, h, rtol=1e-6, atol=1e-6)


def test_without_tokens_the_state_stays() -> None:
    x, a, b, state = np.zeros((2, 0, 5), "f4"), -np.ones((5, 3), "f4"), np.zeros((2, 0, 3), "f4"), normal(2, 5, 3)
    for run in (run_numpy, run_jax):
        y, after = run(op("selective_scan"), [x, x, a, b, b, None, state])
        assert y.shape == x.shape and np.array_equal(after, state)


def test_what_does_not_fit_is_refused() -> None:
    x, w, a, b = (Type("f32", shape) for shape in ((2, 6, 5), (5, 4), (5, 3), (2, 6, 3)))
    refused = [
        ("causal_conv", (x, Type("f32", (4, 4))), "not a kernel for each channel"),
        ("causal_conv", (x, Type("i32", (5, 4))), "not floats that go together"),
        ("causal_conv", (x, w.with_dtype("f64")), "not floats that go together"),
        ("causal_conv", (x, w, Type("f32", (4,))), "does not fit"),
        ("causal_conv", (x, w, None, Type("f32", (2, 4, 5))), "are not the 3 rows before"),
        ("causal_conv", (x, w, None, Type("f32", (3, 3, 5))), "2 against 3"),
        ("selective_scan", (x, x, Type("f32", (4, 3)), b, b), "does not fit"),
        ("selective_scan", (x, x, a, x, b), "does not fit"),
        ("selective_scan", (x, Type("f32", (2, 7, 5)), a, b, b), "6 against 7"),
        ("selective_scan", (x, x, a, Type("f32", (3, 6, 3)), b), "2 against 3"),
        ("selective_scan", (x, x, a, b, b, Type("f32", (3,))), "does not fit"),
        ("selective_scan", (x, x, a, b, b, None, Type("f32", (2, 3, 5))), "no state"),
        ("selective_scan", (x, x, a, b, b, None, None, Type("f32", (2,))), "are not counts"),
        ("selective_scan", (x, x, a, b, b, None, None, Type("i32", (3,))), "2 against 3"),
    ]
    for name, operands, message in refused:
        with pytest.raises(InferError, match=message):
            op(name).results(*operands)
