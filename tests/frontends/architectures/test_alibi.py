"""Positions as a bias by distance, without rotations: a Llama with ALiBi (arXiv:2108.12409)."""

import numpy as np
import pytest
import torch
from transformers.models.bloom.modeling_bloom import _get_alibi_slopes

from burnish.frontends.architecture import Layers
from burnish.frontends.architectures.llama import Llama
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value
from tests import models
from tests.frontends.architectures.feeding import check_forward


def slopes(heads: int) -> torch.Tensor:
    """Bloom's own."""
    return _get_alibi_slopes(heads, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("heads", [4, 6])  # 6: slopes of 4 heads, and two more between them
def test_numbers_are_the_oracles(heads, tmp_path, registries) -> None:
    class LlamaWithAlibi(Llama, replace=True):
        names = ("Llama",)
        inert = ("rope_parameters",)

        def rotate(self, op: Layers, x: Value, at: At) -> Value:
            return x

        def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At) -> Value:
            bias = op.alibi(op.constant(slopes(self.heads).numpy()), query=q.shape[1], key=k.shape[1])
            return op.attention(q, k, v, None, None, bias, causal=True, scale=self.head_dim**-0.5)

    oracle = models.llama(num_attention_heads=heads, hidden_size=48)
    module = load_checkpoint(models.saved(oracle, tmp_path))
    assert "rope" not in {node.op.name for node in module.graphs["forward"]}
    ids = models.tokens((2, 19))
    at = torch.arange(19)
    bias = slopes(heads)[:, None, None] * (at - at[:, None])
    mask = bias.masked_fill(at > at[:, None], -np.inf).expand(2, -1, -1, -1)
    with torch.no_grad():  # all positions 0: nothing is rotated
        given = torch.tensor(ids, dtype=torch.long)
        expected = oracle(given, attention_mask=mask, position_ids=torch.zeros_like(given)).logits.numpy()
    check_forward(module, ids, expected)
