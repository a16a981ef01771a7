"""Cohere's Command R."""

from __future__ import annotations

import numpy as np

from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value
from burnish.ir.ops.normalization import LayerNorm


class Cohere(Decoder):
    """Attention and MLP side by side on one norm without a bias, interleaved pairs, scaled logits (Command R)."""

    names = ("Cohere",)
    defaults = {"max_position_embeddings": 8192, "rope_theta": 500000.0}
    eps = ("layer_norm_eps", 1e-5)
    bias_fields = {"attention_bias": False}
    ties = interleaved = True
    norm, norm_bias = Decoder.layer_norm, False

    def setup(self, c: Config) -> None:
        self.normed_heads = c.flag("use_qk_norm", False)
        self.logit_scale = c.number("logit_scale", 0.0625)

    def block(self, op: Layers, x: Value, at: At) -> Value:
        y = self.norm(op, "input_layernorm", x)
        return x + self.self_attention(op, y, at) + self.feed_forward(op, y)

    def each_head(self, op: Layers, name: str, x: Value) -> Value:
        if not self.normed_heads:
            return x
        y = op.emit(LayerNorm(eps=self.epsilon), [x, op.constant(np.ones(self.head_dim, "f4"))])
        return y * op.cast(op.parameter(f"{name}_norm.weight", *x.shape[2:]), to="f32")  # each head has its own

    def logits(self, op: Layers, x: Value) -> Value:
        return super().logits(op, x) * self.logit_scale
