"""Between plain and packed storage; the formats themselves are tested in tests/ir/test_format.py."""

import numpy as np
import pytest

from burnish.ir import OPS, InferError, Layout, QuantFormat, Type
from burnish.testing import check_op, run_jax, run_numpy
from tests.ir.oracles import ORACLES, family, normal, op


@pytest.mark.parametrize("name", family("ops.quantization"))
def test_an_op_obeys_the_laws(name: str) -> None:
    check_op(OPS[name], *ORACLES[name])


def test_quantizing_at_run_time_is_the_same_in_jax() -> None:
    x = normal(300, 64)
    (ours,), (traced,) = (run(op("quantize", format="int8_32"), [x]) for run in (run_numpy, run_jax))
    assert np.array_equal(ours.planes["bytes"], traced.planes["bytes"])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InferError, match="do not divide an input axis of 33"):
        op("quantize", format="q8_0").results(Type("f32", (2, 33)))
    with pytest.raises(InferError, match="unknown format"):
        op("quantize", format="q9").results(Type("f32", (2, 32)))
    with pytest.raises(InferError, match="is not quantized"):
        op("dequantize").results(Type("f32", (2, 32)))
    with pytest.raises(InferError, match="unknown layout"):
        op("relayout", layout="heap").results(Type("q8_0", (2, 32)))


def test_a_layout_may_refuse(registries: None) -> None:
    class Narrow(Layout):
        """Takes matrices of few rows."""

        name = "narrow"

        def accepts(self, format: QuantFormat, shape: tuple) -> str | None:
            return None if shape[0] <= 4 else "it has more than 4 rows"

    assert op("relayout", layout="narrow").results(Type("q8_0", (4, 32)))[0] == Type("q8_0", (4, 32), "narrow")
    with pytest.raises(InferError, match="cannot lie as narrow: it has more than 4 rows"):
        op("relayout", layout="narrow").results(Type("q8_0", (5, 32)))
