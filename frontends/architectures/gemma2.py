"""Gemma 2."""

from __future__ import annotations

import numpy as np

from burnish.frontends.activations import ACTIVATIONS
from burnish.frontends.architecture import Config, Layers, LoadError
from burnish.frontends.architectures.llama import Llama
from burnish.ir.graph import Value
from burnish.ir.types import NUMPY

KINDS = ("sliding_attention", "full_attention")


class Gemma2(Llama):
    """Decoder: norms before and after each part, every other layer within a window, soft caps (arXiv:2408.00118)."""

    names = ("Gemma2ForCausalLM",)
    defaults = {
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0,
    }

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        c = self.config
        if c.flag("use_bidirectional_attention", False):
            raise LoadError(f"{c.where}: use_bidirectional_attention is true, but only causal attention is supported")
        self.activation = ACTIVATIONS[c.choice("hidden_activation", ACTIVATIONS)]
        self.scale = c.number("query_pre_attn_scalar", least=1e-6) ** -0.5
        self.score_cap, self.logit_cap = (  # null means that there is none
            c.number(key, 0.0) for key in ("attn_logit_softcapping", "final_logit_softcapping")
        )
        kinds = c.choices("layer_types", KINDS, [KINDS[i % 2] for i in range(self.layers)])
        self.windows = [c.integer("sliding_window") if kind == "sliding_attention" else 0 for kind in kinds]

    def embed(self, op: Layers, ids: Value) -> Value:
        table = op.parameter("embed_tokens.weight", self.vocabulary, self.width)
        return super().embed(op, ids) * float(np.float32(self.width**0.5).astype(NUMPY[table.dtype]))

    def block(self, op: Layers, x: Value, layer: int) -> Value:
        y = self.attention(op, self.norm(op, "input_layernorm", x), layer)
        x = x + self.norm(op, "post_attention_layernorm", y)
        y = self.mlp(op, self.norm(op, "pre_feedforward_layernorm", x))
        return x + self.norm(op, "post_feedforward_layernorm", y)

    def norm(self, op: Layers, name: str, x: Value) -> Value:
        return op.rms_norm(name, x, self.eps, offset=1.0)

    def attend(self, op: Layers, q: Value, k: Value, v: Value, layer: int) -> Value:
        window = self.windows[layer]
        return op.attention(q, k, v, causal=True, scale=self.scale, window=window, softcap=self.score_cap)

    def logits(self, op: Layers, x: Value) -> Value:
        y = super().logits(op, x)
        return op.tanh(op.div(y, self.logit_cap)) * self.logit_cap if self.logit_cap else y
