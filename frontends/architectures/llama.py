"""Llama."""

from __future__ import annotations

from typing import Any

from burnish.frontends.architecture import Architecture
from burnish.frontends.rotary import rope_frequencies
from burnish.ir.graph import Ops, Value


class Llama(Architecture):
    """Decoder: RMS norm, rotary positions, grouped-query attention, gated MLP (arXiv:2302.13971, 2307.09288)."""

    names = ("LlamaForCausalLM",)
    unused = ("rotary_emb.inv_freq",)

    def attributes(self) -> dict[str, Any]:
        return {"context": self.config.integer("max_position_embeddings", 2048)}

    def forward(self, op: Ops, ids: Value) -> Value:
        c = self.config
        c.choice("hidden_act", ["silu"], "silu")
        self.heads = c.integer("num_attention_heads")
        self.groups = c.integer("num_key_value_heads", self.heads)
        self.head_dim = c.integer("head_dim", c.integer("hidden_size") // self.heads)
        self.positions = op.positions(ids)
        self.inv_freq = op.constant(rope_frequencies(c, self.head_dim))
        eps = c.number("rms_norm_eps", 1e-6)

        with op.scope("model"):
            x = op.embedding("embed_tokens", ids, to="f32")
            for i in range(c.integer("num_hidden_layers", most=1024)):
                with op.scope(f"layers.{i}"):
                    x = x + self.attention(op, op.rms_norm("input_layernorm", x, eps=eps))
                    x = x + self.mlp(op, op.rms_norm("post_attention_layernorm", x, eps=eps))
            x = op.rms_norm("norm", x, eps=eps)
        return op.linear("model.embed_tokens" if c.flag("tie_word_embeddings", False) else "lm_head", x)

    def attention(self, op: Ops, x: Value) -> Value:
        with op.scope("self_attn"):
            q = self.split_heads(op, op.linear("q_proj", x), self.heads)
            k = self.split_heads(op, op.linear("k_proj", x), self.groups)
            v = self.split_heads(op, op.linear("v_proj", x), self.groups)
            q = op.rope(q, self.positions, self.inv_freq)
            k = op.rope(k, self.positions, self.inv_freq)
            y = op.attention(q, k, v, causal=True, scale=self.head_dim**-0.5)
            y = op.reshape(y, shape=(*x.shape[:2], self.heads * self.head_dim))
            return op.linear("o_proj", y)

    def split_heads(self, op: Ops, x: Value, heads: int) -> Value:
        return op.reshape(x, shape=(*x.shape[:2], heads, self.head_dim))

    def mlp(self, op: Ops, x: Value) -> Value:
        with op.scope("mlp"):
            return op.linear("down_proj", op.silu(op.linear("gate_proj", x)) * op.linear("up_proj", x))
