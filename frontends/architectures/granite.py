"""Granite 3, and others with factors where Llama has none."""

from __future__ import annotations

from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import At, Step
from burnish.ir.graph import Value


class Granite(Decoder):
    """Llama with a factor for the embedding, the scores, each sum and the logits (arXiv:2408.13359)."""

    names = ("Granite",)
    defaults = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32}
    bias_fields = {"attention_bias": False, "mlp_bias": False}

    def setup(self, c: Config) -> None:
        self.scale = c.number("attention_multiplier", 1.0)
        self.embedded, self.added = c.number("embedding_multiplier", 1.0), c.number("residual_multiplier", 1.0)
        self.logits_scaling = c.number("logits_scaling", 1.0, least=1e-12)

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        return super().embed(op, ids, at) * self.embedded

    def residual(self, op: Layers, x: Value, step: Step, before: str = "", after: str = "") -> Value:
        y = step(self.norm(op, before, x))
        return x + (self.norm(op, after, y) if after else y) * self.added

    def logits(self, op: Layers, x: Value) -> Value:
        return op.div(super().logits(op, x), self.logits_scaling)


class HyperCLOVAX(Granite):
    """Granite with a norm after each part too, and logits that are multiplied."""

    names = ("HyperCLOVAX",)

    def setup(self, c: Config) -> None:
        super().setup(c)
        self.scale = c.number("attention_multiplier", self.head_dim**-0.5)
        self.after = ("post_norm1", "post_norm2") if c.flag("use_post_norm", True) else ("", "")

    def block(self, op: Layers, x: Value, at: At) -> Value:
        x = self.residual(op, x, lambda y: self.self_attention(op, y, at), "input_layernorm", self.after[0])
        return self.residual(op, x, lambda y: self.feed_forward(op, y), "post_attention_layernorm", self.after[1])

    def logits(self, op: Layers, x: Value) -> Value:
        return Decoder.logits(self, op, x) * self.logits_scaling


class MiniCPM(Granite):
    """Granite, its factors by depth and width (arXiv:2404.06395)."""

    names = ("MiniCPM",)

    def setup(self, c: Config) -> None:
        self.embedded, self.added = c.number("scale_emb", 1.0), c.number("scale_depth", 1.0) / self.layers**0.5
        self.logits_scaling = self.width / c.integer("dim_model_base", 1)
