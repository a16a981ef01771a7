"""Element by element: arithmetic, comparisons, activations, casts."""

import numpy as np
import pytest

from burnish.ir import OPS, InferError, Type
from burnish.ir.dims import Sym
from burnish.ir.guards import recording
from burnish.testing import check_op, run_jax, run_numpy
from tests.ir.oracles import ORACLES, family, op


@pytest.mark.parametrize("name", family("ops.elementwise"))
def test_an_op_obeys_the_laws(name: str) -> None:
    check_op(OPS[name], *ORACLES[name])


def test_element_types_are_never_mixed() -> None:
    with pytest.raises(InferError, match="casts are explicit"):
        op("add").results(Type("f32", (2,)), Type("i32", (2,)))
    with pytest.raises(InferError, match="is not a number"):
        op("mul").results(Type("bool", (2,)), Type("bool", (2,)))
    with pytest.raises(InferError, match="is not boolean"):
        op("logical_and").results(Type("i32", (2,)), Type("i32", (2,)))
    with pytest.raises(InferError, match="is packed"):
        op("add").results(Type("q8_0", (32,)), Type("q8_0", (32,)))
    with pytest.raises(InferError, match="is not a float"):
        op("exp").results(Type("i32", (2,)))


def test_shapes_broadcast_or_are_refused() -> None:
    s = Sym("S")
    assert op("add").results(Type("f32", (s, 1)), Type("f32", (4,))) == (Type("f32", (s, 4)),)
    with pytest.raises(InferError, match="2 against 3"):
        op("add").results(Type("f32", (2,)), Type("f32", (3,)))


def test_symbols_that_must_broadcast_are_assumed_equal() -> None:
    s, t = Type("f32", (Sym("S"),)), Type("f32", (Sym("T"),))
    with pytest.raises(InferError, match="no guard"):
        op("add").results(s, t)
    assumed: list = []
    with recording(assumed):
        assert op("add").results(s, t) == (s,)
    assert list(map(str, assumed)) == ["equal(S, T)"]


def test_a_cast_beyond_the_range_is_the_same_everywhere() -> None:
    x = np.array([1e10, -1e10, np.nan, np.inf, -0.9], "f4")
    for run in (run_numpy, run_jax):
        assert run(op("cast", to="i8"), [x])[0].tolist() == [127, -128, 0, 127, 0]
        assert run(op("cast", to="u8"), [x])[0].tolist() == [255, 0, 0, 255, 0]
        assert run(op("cast", to="i64"), [x])[0].tolist() == [10**10, -(10**10), 0, 2**63 - 1, 0]


def test_fma_rounds_once() -> None:
    a = np.float32(1 + 2**-12)
    one, (fused,) = np.float32(a * a) - np.float32(1), run_numpy(op("fma"), [a, a, np.float32(-1)])
    assert fused == 2**-11 + 2**-24 != one


def test_gelu_has_two_forms() -> None:
    with pytest.raises(InferError, match="none or tanh"):
        op("gelu", approximate="erf").results(Type("f32", ()))
