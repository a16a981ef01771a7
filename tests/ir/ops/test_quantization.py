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
    with pytest.raises(InferError, match=r"f32\[2, 4\] are not words of 32 bits"):
        op("unpack_bits", bits=4, axis=0).results(Type("f32", (2, 4)))
    with pytest.raises(InferError, match="fields of 3 bits do not fill a word"):
        op("unpack_bits", bits=3, axis=0).results(Type("i32", (2, 4)))
    with pytest.raises(InferError, match="1 more may not fit a byte"):
        op("unpack_bits", bits=8, axis=0, plus=1).results(Type("i32", (2, 4)))
    parts = Type("f16", (2, 1)), Type("u8", (2, 1)), Type("u8", (2, 128))
    for wrong, message in (
        ("q9", "unknown format"),
        ("q8_0", "q8_0 is made of 2 parts"),
        ("q4_1", r"minimum of q4_1 is u8\[2, 1\], not f16\[2, 4\]|scale of q4_1 is f16\[2, 1\], not f16\[2, 4\]"),
    ):
        with pytest.raises(InferError, match=message):
            op("pack_parts", format=wrong).results(*parts)
    with pytest.raises(InferError, match="groups of 128 do not divide"):
        op("pack_parts", format="int4_128").results(*parts[:2], Type("u8", (2, 64)))
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
