"""Normalisation over the last axis."""

import pytest

from burnish.ir import OPS, InferError, Type
from burnish.testing import check_op
from tests.ir.oracles import ORACLES, family, op


@pytest.mark.parametrize("name", family("ops.normalization"))
def test_an_op_obeys_the_laws(name: str) -> None:
    check_op(OPS[name], *ORACLES[name])


def test_the_weight_must_fit_the_last_axis() -> None:
    x = Type("f32", (2, 64))
    for name in ("rms_norm", "layer_norm"):
        with pytest.raises(InferError, match="does not scale"):
            op(name, eps=1e-5).results(x, Type("f32", (63,)))
    with pytest.raises(InferError, match="does not fit"):
        op("layer_norm", eps=1e-5).results(x, Type("f32", (64,)), Type("f32", (2, 64)))
