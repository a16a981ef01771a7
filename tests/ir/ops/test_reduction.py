"""Reductions along axes, and what normalises along one."""

import numpy as np
import pytest

from burnish.ir import OPS, InferError, Type
from burnish.ir.types import NUMPY
from burnish.testing import check_op, run_jax, run_numpy
from tests.ir.oracles import ORACLES, family, op


@pytest.mark.parametrize("name", family("ops.reduction"))
def test_an_op_obeys_the_laws(name: str) -> None:
    check_op(OPS[name], *ORACLES[name])


def test_bf16_adds_up_in_f32() -> None:
    x = np.full((1, 4096), 1.01, "f4").astype(NUMPY["bf16"])
    assert float(np.mean(x)) < 0.2  # NumPy's own
    for run in (run_numpy, run_jax):
        assert run(op("reduce_mean", axes=(1,)), [x])[0].tolist() == [[x[0, 0]]]


def test_axes_count_from_either_end() -> None:
    x = Type("f32", (2, 3, 4))
    assert op("reduce_sum", axes=(-1,)).results(x)[0].shape == (2, 3, 1)
    assert op("reduce_sum", axes=(0, -1), keepdims=False).results(x)[0].shape == (3,)
    with pytest.raises(InferError, match="no axis 3"):
        op("reduce_max", axes=(3,)).results(x)
    with pytest.raises(InferError, match="is not a float"):
        op("reduce_mean", axes=(0,)).results(Type("i32", (2,)))
