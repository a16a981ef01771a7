"""Llama."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.frontends.activations import ACTIVATIONS
from burnish.frontends.architecture import Architecture, Config, Layers
from burnish.frontends.rotary import rope_frequencies
from burnish.ir.graph import Value


class Llama(Architecture):
    """Decoder: RMS norm, rotary positions, grouped-query attention, gated MLP (arXiv:2302.13971, 2307.09288)."""

    names = ("LlamaForCausalLM",)
    base = "model"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        c = self.config
        self.layers, self.vocabulary = c.integer("num_hidden_layers", most=1024), c.integer("vocab_size")
        self.width, self.eps = c.integer("hidden_size"), c.number("rms_norm_eps", 1e-6)
        self.heads = c.integer("num_attention_heads")
        self.groups = c.integer("num_key_value_heads", self.heads)
        per_head = None if c.has("head_dim") else c.quotient("hidden_size", "num_attention_heads")
        self.head_dim = c.integer("head_dim", per_head, most=4096)
        self.activation = ACTIVATIONS[c.choice("hidden_act", ACTIVATIONS, "silu")]
        self.attention_bias, self.mlp_bias = c.flag("attention_bias", False), c.flag("mlp_bias", False)

    def facts(self) -> dict[str, Any]:
        return {"context": self.config.integer("max_position_embeddings", 2048)}

    def tied(self) -> Mapping[str, str]:
        tied = self.config.flag("tie_word_embeddings", False)
        return {"lm_head.weight": "model.embed_tokens.weight"} if tied else {}

    def forward(self, op: Layers, ids: Value) -> Value:
        self.positions = op.positions(ids)
        self.inv_freq = op.constant(rope_frequencies(self.config, self.head_dim))
        with op.scope("model"):
            x = self.embed(op, ids)
            for i in range(self.layers):
                with op.block("layers", i):
                    x = self.block(op, x, i)
            x = self.norm(op, "norm", x)
        return self.logits(op, x)

    def embed(self, op: Layers, ids: Value) -> Value:
        return op.embedding("embed_tokens", ids, self.vocabulary, self.width)

    def block(self, op: Layers, x: Value, layer: int) -> Value:
        x = x + self.attention(op, self.norm(op, "input_layernorm", x), layer)
        return x + self.mlp(op, self.norm(op, "post_attention_layernorm", x))

    def norm(self, op: Layers, name: str, x: Value) -> Value:
        return op.rms_norm(name, x, self.eps)

    def attention(self, op: Layers, x: Value, layer: int) -> Value:
        with op.scope("self_attn"):
            q = self.rotate(op, self.project(op, "q_proj", x, self.heads))
            k = self.rotate(op, self.project(op, "k_proj", x, self.groups))
            y = self.attend(op, q, k, self.project(op, "v_proj", x, self.groups), layer)
            y = op.reshape(y, shape=(*x.shape[:2], self.heads * self.head_dim))
            return op.linear("o_proj", y, x.shape[-1], self.attention_bias)

    def project(self, op: Layers, name: str, x: Value, heads: int) -> Value:
        y = op.linear(name, x, heads * self.head_dim, self.attention_bias)
        return op.reshape(y, shape=(*x.shape[:2], heads, self.head_dim))

    def rotate(self, op: Layers, x: Value) -> Value:
        return op.rope(x, self.positions, self.inv_freq)

    def attend(self, op: Layers, q: Value, k: Value, v: Value, layer: int) -> Value:
        return op.attention(q, k, v, causal=True, scale=self.head_dim**-0.5)

    def mlp(self, op: Layers, x: Value) -> Value:
        with op.scope("mlp"):
            width = self.config.integer("intermediate_size")
            gate = self.activation(op, op.linear("gate_proj", x, width, self.mlp_bias))
            up = op.linear("up_proj", x, width, self.mlp_bias)
            return op.linear("down_proj", gate * up, x.shape[-1], self.mlp_bias)

    def logits(self, op: Layers, x: Value) -> Value:
        return op.linear("lm_head", x, self.vocabulary)
