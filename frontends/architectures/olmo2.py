"""OLMo 2."""

from __future__ import annotations

from burnish.frontends.architecture import Layers
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value


class Olmo2(Decoder):
    """Llama with norms behind attention and MLP, and of all queries and all keys together (arXiv:2501.00656)."""

    names = ("Olmo2",)
    eps = ("rms_norm_eps", 1e-5)
    bias_fields = {"attention_bias": False}

    def qkv(self, op: Layers, x: Value, to: Value) -> tuple[Value, Value, Value]:
        q, k, v = super().qkv(op, x, to)
        return self.norm(op, "q_norm", q), self.norm(op, "k_norm", k), v

    def block(self, op: Layers, x: Value, at: At) -> Value:
        x = self.residual(op, x, lambda y: self.self_attention(op, y, at), after="post_attention_layernorm")
        return self.residual(op, x, lambda y: self.feed_forward(op, y), after="post_feedforward_layernorm")
