"""The slopes of ALiBi are BLOOM's and MPT's, as transformers has them."""

import numpy as np
import pytest
import torch
from transformers.models.bloom.modeling_bloom import _get_alibi_slopes
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from burnish.frontends.alibi import alibi_slopes


@pytest.mark.parametrize("heads", [1, 2, 3, 5, 6, 7, 8, 12, 16, 25, 32, 112])
def test_slopes_are_the_oracles(heads: int) -> None:
    found = alibi_slopes(heads)
    assert found.dtype == np.float32 and found.shape == (heads,)
    of_mpt = -build_mpt_alibi_tensor(heads, 2)[:, 0, 0].numpy()  # of one token back
    np.testing.assert_allclose(found, of_mpt, rtol=3e-7)
    of_bloom = _get_alibi_slopes(heads, torch.device("cpu")).numpy()  # powers of a rounded base: up to 112 roundings
    np.testing.assert_allclose(found, of_bloom, rtol=112 * 6e-8)
