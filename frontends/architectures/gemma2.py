"""Gemma 2."""

from __future__ import annotations

import numpy as np

from burnish.frontends.architecture import Layers, LoadError
from burnish.frontends.config import Config
from burnish.frontends.stored import Conventions
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.layer_types import SLIDING, layer_types
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value
from burnish.ir.types import NUMPY


class Gemma2(Decoder):
    """Norms before and after each part, every other layer within a window, soft caps (arXiv:2408.00118)."""

    names = ("Gemma2",)
    defaults = {
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0,
    }
    ties = True
    activation = ("hidden_activation", "gelu_pytorch_tanh")
    inert = ("hidden_act", "cache_implementation")
    gguf = {"gemma2": Conventions(norms_with_offset=True)}

    def setup(self, c: Config) -> None:
        if c.flag("use_bidirectional_attention", False):
            raise LoadError(f"{c.where}: use_bidirectional_attention is true, but only causal attention is supported")
        self.biased = ("q", "k", "v", "o") * c.flag("attention_bias", False)
        self.score_cap, self.logit_cap = (  # null means that there is none
            c.number(key, 0.0) for key in ("attn_logit_softcapping", "final_logit_softcapping")
        )
        self.kinds = layer_types(c, lambda i: i % 2 == 0)

    @property
    def scale(self) -> float:
        return float(self.config.number("query_pre_attn_scalar", least=1e-6) ** -0.5)

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        x = super().embed(op, ids, at)
        assert x.node is not None
        rounded = np.float32(self.width**0.5).astype(NUMPY.get(x.node["w"].dtype, np.float32))
        return x * float(rounded)

    def block(self, op: Layers, x: Value, at: At) -> Value:
        y = self.self_attention(op, self.norm(op, "input_layernorm", x), at)
        x = x + self.norm(op, "post_attention_layernorm", y)
        y = self.feed_forward(op, self.norm(op, "pre_feedforward_layernorm", x))
        return x + self.norm(op, "post_feedforward_layernorm", y)

    def norm(self, op: Layers, name: str, x: Value) -> Value:
        return op.rms_norm(name, x, self.epsilon, offset=1.0)

    def window(self, layer: int) -> int:
        return self.config.integer("sliding_window") if self.kinds[layer] == SLIDING else 0

    def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At) -> Value:
        how = {"scale": self.scale, "window": self.window(at.layer), "softcap": self.score_cap}
        return op.attention(q, k, v, causal=True, **how)

    def logits(self, op: Layers, x: Value) -> Value:
        y = super().logits(op, x)
        return op.tanh(op.div(y, self.logit_cap)) * self.logit_cap if self.logit_cap else y
