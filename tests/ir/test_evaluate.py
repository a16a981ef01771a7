"""The one caller of `eval`: widening, packed operands, result types."""

import jax
import numpy as np
import pytest

from burnish.ir import Op, Packed, Type
from burnish.ir.evaluate import evaluate
from burnish.ir.op import Array, Arrays
from burnish.ir.types import NUMPY
from burnish.testing import run_numpy
from tests.ir.oracles import op, packed


def bf16(*values: float) -> np.ndarray:
    return np.array(values, NUMPY["bf16"])


def test_low_precision_is_widened_and_the_result_cast_back(registries: None) -> None:
    seen = []

    class Spy(Op):
        """x, remembering its type."""

        def infer(self, x: Type) -> Type:
            return x

        def eval(self, xp: Arrays, x: Array) -> Array:
            seen.append(str(x.dtype))
            return x

    (y,) = evaluate(Spy(), np, [bf16(1, 2)], ["bf16"])
    assert y.dtype == NUMPY["bf16"]
    evaluate(Spy(), np, [np.float16([1])], ["f16"])
    evaluate(Spy(), np, [np.float64([1])], ["f64"])
    evaluate(Spy(), np, [np.int8([1])], ["i8"])
    assert seen == ["float32", "float32", "float64", "int8"]


def test_numpys_promotions_are_not_ours() -> None:
    (total,) = run_numpy(op("reduce_sum", axes=(0,)), [np.int32([2**31 - 1, 1])])
    assert total.dtype == np.int32 and total.tolist() == [-(2**31)]  # NumPy adds up in 64 bits
    (y,) = run_numpy(op("add"), [bf16(256), bf16(1)])
    assert y.dtype == NUMPY["bf16"] and y.tolist() == [256.0]


@pytest.mark.parametrize("layout", ["", "planes"])
def test_planewise_ops_keep_the_packing(layout: str) -> None:
    x = packed("q4_0", 6, 64, layout=layout)
    (y,) = evaluate(op("concat", axis=0), np, [x, x], ["q4_0"])
    assert isinstance(y, Packed) and (y.shape, y.layout) == ((12, 64), layout)
    assert np.array_equal(y.dequantize(np), np.concatenate([x.dequantize(np)] * 2))


@pytest.mark.parametrize("layout", ["", "planes"])
def test_other_ops_get_floats(layout: str) -> None:
    w = packed("q8_0", 5, 32, layout=layout)
    x = np.eye(32, dtype="f4")
    (y,) = evaluate(op("linear"), np, [x, w], ["f32"])
    assert np.array_equal(y, w.dequantize(np).T)


def test_an_operand_that_is_not_there_stays_none() -> None:
    x, w = np.ones((1, 4), "f4"), np.ones((2, 4), "f4")
    assert evaluate(op("linear"), np, [x, w, None], ["f32"])[0].tolist() == [[4, 4]]


def test_the_number_of_results_must_fit() -> None:
    with pytest.raises(ValueError, match="zip"):
        evaluate(op("add"), np, [np.ones(2), np.ones(2)], ["f64", "f64"])


def test_tracing_by_jax_needs_no_other_door() -> None:
    traced = jax.jit(lambda x: evaluate(op("softmax"), jax.numpy, [x], ["bf16"])[0])
    (ours,) = evaluate(op("softmax"), np, [bf16(1, 2, 3)], ["bf16"])
    assert np.asarray(traced(bf16(1, 2, 3))).tolist() == ours.tolist()
