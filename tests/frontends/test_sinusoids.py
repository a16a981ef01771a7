"""Computed positions are the tables of M2M100 and Marian, as transformers has them."""

import numpy as np
import pytest
from transformers.models.m2m_100.modeling_m2m_100 import M2M100SinusoidalPositionalEmbedding
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

from burnish.backends.target import make_backend
from burnish.frontends.sinusoids import sinusoids
from burnish.ir.builder import Ops
from burnish.ir.module import Module
from burnish.ir.types import Type


@pytest.mark.parametrize("closed", [False, True])
def test_numbers_are_the_oracles(closed: bool) -> None:
    module, rows, width = Module(), 1024, 64
    graph = module.graph("forward")
    graph.set_outputs({"y": sinusoids(Ops(graph), graph.input("at", Type("i32", (1, rows))), width, closed)})
    found = make_backend("numpy", module)("forward", {"at": np.arange(rows, dtype="i4")[None]})["y"][0]
    oracle = MarianSinusoidalPositionalEmbedding(rows, width)
    table = M2M100SinusoidalPositionalEmbedding.get_embedding(rows, width) if closed else oracle.create_weight()
    assert found.dtype == np.float32 and found.shape == (rows, width)
    # An angle is off by the roundings of its frequency, two units apart at most, and of the product; sin by one more.
    angles = np.arange(rows)[:, None] * np.tile(1e4 ** -(np.arange(width // 2) / (width // 2 - closed)), 2)
    np.testing.assert_array_less(np.abs(found - table.numpy()), 3 * 2**-23 * angles + 2**-23)
