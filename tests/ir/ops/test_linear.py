"""Matrix products, and the table look-up that is one."""

import numpy as np
import pytest

from burnish.ir import OPS, InferError, Type
from burnish.testing import check_op, run_jax, run_numpy
from tests.ir.oracles import ORACLES, apart, family, normal, op, packed, sums


@pytest.mark.parametrize("name", family("ops.linear"))
def test_an_op_obeys_the_laws(name: str) -> None:
    check_op(OPS[name], *ORACLES[name])


def test_a_quantized_linear_is_that_of_the_dequantized_weight() -> None:
    x, w = normal(3, 64), packed("q4_0", 5, 64, layout="planes")
    (y,) = run_numpy(op("linear"), [x, w])
    assert np.array_equal(y, run_numpy(op("linear"), [x, w.dequantize(np)])[0])


def test_activations_may_be_quantized() -> None:
    x, w = packed("int8_32", 3, 64), packed("q8_0", 5, 64)
    with pytest.raises(InferError, match="give `to`"):
        op("linear").results(Type("int8_32", (3, 64)), Type("q8_0", (5, 64)))
    plain = sums(op("linear", to="f32"), (x.dequantize(np), w.dequantize(np)), lambda x, w: x @ w.T, 64)
    for run in (run_numpy, run_jax):
        (y,) = run(plain.op, [x, w])
        assert (np.abs(y - run(plain.op, plain.inputs)[0]) <= apart(plain)).all()


def test_a_row_of_a_packed_table_is_dequantized_alone() -> None:
    table = packed("q4_0", 6, 64)
    (rows,) = run_numpy(op("embedding"), [np.array([[5, 0]], "i4"), table])
    assert rows.shape == (1, 2, 64)
    assert np.array_equal(rows[0], table.dequantize(np)[[5, 0]])


def test_what_does_not_fit_is_refused() -> None:
    x, w = Type("f32", (2, 64)), Type("f32", (5, 64))
    for wrong in [(x, Type("f32", (5, 63))), (x, Type("i32", (5, 64))), (x, w, Type("f32", (4,)))]:
        with pytest.raises(InferError, match="linear"):
            op("linear").results(*wrong)
    with pytest.raises(InferError, match="64 against 5"):
        op("matmul").results(x, w)
    with pytest.raises(InferError, match="not integers"):
        op("embedding").results(x, w)
