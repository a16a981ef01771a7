"""Mixtures of experts."""

import pytest

from burnish.ir import OPS, InferError, Type
from burnish.ir.dims import Sym
from burnish.testing import check_op
from tests.ir.oracles import ORACLES, family, op


@pytest.mark.parametrize("name", family("ops.experts"))
def test_an_op_obeys_the_laws(name: str) -> None:
    check_op(OPS[name], *ORACLES[name])


def test_there_must_be_as_many_to_choose_from() -> None:
    x = Type("f32", (Sym("B"), 8))
    assert op("top_k", k=8).results(x) == (x, Type("i32", (Sym("B"), 8)))
    for k, message in ((9, "9 is more than 8"), (0, "0 are none")):
        with pytest.raises(InferError, match=message):
            op("top_k", k=k).results(x)
    for dtype in ("bool", "int8"):
        with pytest.raises(InferError, match="is not a vector of numbers"):
            op("top_k", k=1).results(Type(dtype, (8,)))
