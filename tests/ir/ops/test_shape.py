"""Memory operators: the same numbers in another shape, order or place."""

import numpy as np
import pytest

from burnish.ir import OPS, InferError, Type
from burnish.ir.dims import Sym
from burnish.ir.guards import recording
from burnish.testing import check_op, run_jax, run_numpy
from tests.ir.oracles import ORACLES, family, op


@pytest.mark.parametrize("name", family("ops.shape"))
def test_an_op_obeys_the_laws(name: str) -> None:
    check_op(OPS[name], *ORACLES[name])


B, S, T = Sym("B"), Sym("S"), Sym("T")


def test_reshape_keeps_the_number_of_elements() -> None:
    x = Type("f32", (B, S, 64))
    assert op("reshape", shape=(B, S, 4, 16)).results(x)[0].shape == (B, S, 4, 16)
    assert op("reshape", shape=(B * S, -1)).results(x)[0].shape == (B * S, 64)
    for shape, message in [
        ((B, S, 63), "has not as many"),
        ((B, 3, -1), "does not divide"),
        ((-1, -1), "not divide|neg"),
    ]:
        with pytest.raises(InferError, match=message):
            op("reshape", shape=shape).results(x)


def test_a_negative_size_is_refused() -> None:
    for shape in ((-2, -3), (-1, -1)):
        with pytest.raises(InferError):
            op("reshape", shape=shape).results(Type("f32", (6,)))


def test_broadcast_to_assumes_and_refuses() -> None:
    assumed: list = []
    with recording(assumed):
        assert op("broadcast_to", shape=(B, T)).results(Type("f32", (S,)))[0].shape == (B, T)
    assert list(map(str, assumed)) == ["equal(T, S)"]
    for shape in ((2,), (3, 2), (4, 1)):
        with pytest.raises(InferError):
            op("broadcast_to", shape=shape).results(Type("f32", (4, 3)))


def test_concat_adds_symbols_up() -> None:
    parts = [Type("f32", (B, d)) for d in (S, 1, S)]
    assert op("concat", axis=-1).results(*parts)[0].shape == (B, S * 2 + 1)


def test_nothing_to_join_is_refused() -> None:
    for joining in (op("concat", axis=0), op("stack")):
        with pytest.raises(InferError):
            joining.results()


def test_packed_rows_join_but_not_their_insides() -> None:
    x = Type("q8_0", (4, 64), "planes")
    assert op("concat", axis=0).results(x, x) == (Type("q8_0", (8, 64), "planes"),)
    for axis in (1, -1, -2):  # counted from the end, an axis of a plane is another one
        with pytest.raises(InferError, match="counted from the front"):
            op("concat", axis=axis).results(x, x)
    with pytest.raises(InferError, match="concat"):
        op("concat", axis=0).results(x, Type("q8_0", (4, 64)))
    for name, attributes in [("reshape", {"shape": (256,)}), ("transpose", {"perm": (1, 0)})]:
        with pytest.raises(InferError, match="is packed"):
            op(name, **attributes).results(x)


def test_slices_and_splits_are_checked() -> None:
    x = Type("f32", (S, 8))
    assert op("slice", axis=1, start=2, stop=99).results(x)[0].shape == (S, 6)
    assert op("slice", axis=0, start=1, stop=S).results(x)[0].shape == (S - 1, 8)
    for start, stop in ((5, 2), (-1, 4), (9, 12)):
        with pytest.raises(InferError, match="slice"):
            op("slice", axis=1, start=start, stop=stop).results(x)
    with pytest.raises(InferError, match="do not add up"):
        op("split", axis=1, sizes=(4, 3)).results(x)


def test_axes_are_checked() -> None:
    x = Type("f32", (1, 8))
    for wrong in (
        op("squeeze", axes=(1,)),
        op("squeeze", axes=(2,)),
        op("unsqueeze", axes=(0, 0)),
        op("unsqueeze", axes=(3,)),
    ):
        with pytest.raises(InferError):
            wrong.results(x)
    with pytest.raises(InferError, match="does not permute"):
        op("transpose", perm=(0, 0)).results(x)
    with pytest.raises(InferError, match="no axis 2"):
        op("concat", axis=2).results(x)
    with pytest.raises(InferError, match="no row 1"):
        op("index", index=1).results(x)


def test_out_of_bounds_is_clipped_alike() -> None:
    x, at = np.arange(5, dtype="f4"), np.array([-1, -5, -6, 4, 5, 2**31 - 1], "i4")
    for run in (run_numpy, run_jax):
        assert run(op("gather", axis=0), [x, at])[0].tolist() == [4, 0, 0, 4, 4, 4]


def test_iota_is_of_numbers() -> None:
    for dtype in ("bool", "q8_0", "f99"):
        with pytest.raises(InferError, match="iota"):
            op("iota", size=32, dtype=dtype).results()
