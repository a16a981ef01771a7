"""T5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.frontends.activations import ACTIVATIONS
from burnish.frontends.architecture import Architecture, B, Config, Layers, S, T
from burnish.ir.graph import Value
from burnish.ir.signature import COUNT, HIDDEN, TOKENS, Linked, Role
from burnish.ir.types import Type


class T5(Architecture):
    """Encoder-decoder: RMS norm, a bias by distance in place of positions, no 1/sqrt(d) (arXiv:1910.10683).

    v1.0 has an MLP with ReLU and a tied head on scaled states; v1.1 a gated MLP and a head of its own.
    """

    names = ("T5ForConditionalGeneration",)
    graphs = ("encoder", "decoder")
    task = "text2text-generation"
    unused = ("EncDecAttention.relative_attention_bias.",)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        c = self.config
        self.width, self.eps = c.integer("d_model"), c.number("layer_norm_epsilon", 1e-6)
        self.heads, self.head_dim = c.integer("num_heads"), c.integer("d_kv", most=4096)
        kind = c.choice("feed_forward_proj", [*ACTIVATIONS, *(f"gated-{name}" for name in ACTIVATIONS)], "relu")
        self.gated = kind.startswith("gated-")
        self.activation = ACTIVATIONS["gelu_new" if kind == "gated-gelu" else kind.removeprefix("gated-")]

    def facts(self) -> dict[str, Any]:
        return {"decoder_start": self.config.integer("decoder_start_token_id", 0, least=0)}

    def tied(self) -> Mapping[str, str]:
        names = ("lm_head", "encoder.embed_tokens", "decoder.embed_tokens")
        return {f"{name}.weight": "shared.weight" for name in names}

    def inputs(self, graph: str) -> Mapping[str, tuple[Type, Role]]:
        if graph == "encoder":
            return {"ids": (Type("i32", (B, T)), TOKENS), COUNT.name: (Type("i32", (B,)), COUNT)}
        return {
            "ids": (Type("i32", (B, S)), TOKENS),
            "encoder_hidden": (Type("f32", (B, T, self.width)), Linked("encoder", HIDDEN.name)),
            "encoder_count": (Type("i32", (B,)), Linked("encoder", COUNT.name)),
        }

    def encoder(self, op: Layers, ids: Value, count: Value) -> Value:
        with op.scope("encoder"):
            return self.stack(op, self.config.integer("num_layers", most=1024), ids, count)

    def decoder(self, op: Layers, ids: Value, encoder_hidden: Value, encoder_count: Value) -> Value:
        c = self.config
        blocks = c.integer("num_decoder_layers", c.integer("num_layers"), most=1024)
        with op.scope("decoder"):
            x = self.stack(op, blocks, ids, encoder_count, encoder_hidden)
        if c.flag("scale_decoder_outputs", c.flag("tie_word_embeddings", True)):
            x = x * self.width**-0.5
        return op.linear("lm_head", x, c.integer("vocab_size"))

    def stack(self, op: Layers, blocks: int, ids: Value, count: Value, encoded: Value | None = None) -> Value:
        x = op.embedding("embed_tokens", ids, self.config.integer("vocab_size"), self.width)
        bias = self.bias(op, x, causal=encoded is not None)
        for i in range(blocks):
            with op.block("block", i):
                x = self.block(op, x, bias, count, encoded)
        return op.rms_norm("final_layer_norm", x, self.eps)

    def block(self, op: Layers, x: Value, bias: Value, count: Value, encoded: Value | None) -> Value:
        with op.scope("layer.0"):
            y = op.rms_norm("layer_norm", x, self.eps)
            with op.scope("SelfAttention"):
                x = x + self.attention(op, y, y, count if encoded is None else None, bias, causal=encoded is not None)
        if encoded is not None:
            with op.scope("layer.1"):
                y = op.rms_norm("layer_norm", x, self.eps)
                with op.scope("EncDecAttention"):
                    x = x + self.attention(op, y, encoded, count)
        with op.scope("layer.1" if encoded is None else "layer.2"):
            return x + self.mlp(op, op.rms_norm("layer_norm", x, self.eps))

    def attention(
        self, op: Layers, x: Value, to: Value, count: Value | None, bias: Value | None = None, causal: bool = False
    ) -> Value:
        q, k, v = (self.project(op, name, y) for name, y in (("q", x), ("k", to), ("v", to)))
        y = op.attention(q, k, v, None, count, bias, causal=causal, scale=1.0)
        return op.linear("o", op.reshape(y, shape=(*x.shape[:2], self.heads * self.head_dim)), self.width)

    def project(self, op: Layers, name: str, x: Value) -> Value:
        y = op.linear(name, x, self.heads * self.head_dim)
        return op.reshape(y, shape=(*x.shape[:2], self.heads, self.head_dim))

    def bias(self, op: Layers, x: Value, causal: bool) -> Value:
        return op.relative_bias(
            "block.0.layer.0.SelfAttention.relative_attention_bias",
            self.config.integer("relative_attention_num_buckets", 32),
            self.heads,
            query=x.shape[1],
            key=x.shape[1],
            bidirectional=not causal,
            max_distance=self.config.integer("relative_attention_max_distance", 128, most=1 << 16),
        )

    def mlp(self, op: Layers, x: Value) -> Value:
        width = self.config.integer("d_ff")
        with op.scope("DenseReluDense"):
            if self.gated:
                y = self.activation(op, op.linear("wi_0", x, width)) * op.linear("wi_1", x, width)
            else:
                y = self.activation(op, op.linear("wi", x, width))
            return op.linear("wo", y, self.width)
