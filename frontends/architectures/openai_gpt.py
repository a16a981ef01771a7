"""The first GPT."""

from __future__ import annotations

from burnish.frontends.activations import ACTIVATIONS
from burnish.frontends.architecture import Layers
from burnish.frontends.architectures.gpt2 import GPT2
from burnish.frontends.config import Config
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value


class OpenAIGPT(GPT2):
    """GPT-2 with a norm after every sum, and none at the end (Radford et al., 2018)."""

    names = ("OpenAIGPT",)
    keys = {k: v for k, v in GPT2.keys.items() if k != "intermediate_size"}
    defaults = GPT2.defaults | {"vocab_size": 40478, "max_position_embeddings": 512}
    activation = ("afn", "gelu")
    spelling = GPT2.spelling | {"embed_tokens": "tokens_embed", "embed_positions": "positions_embed"}

    def setup(self, c: Config) -> None:
        super().setup(c)
        kind = c.choice("afn", ("gelu", "relu", "silu", "swish"), "gelu")
        self.act = ACTIVATIONS["gelu_new" if kind == "gelu" else kind]

    def block(self, op: Layers, x: Value, at: At) -> Value:
        x = self.norm(op, "input_layernorm", x + self.self_attention(op, x, at))
        return self.norm(op, "post_attention_layernorm", x + self.feed_forward(op, x))

    def final(self, op: Layers, x: Value) -> Value:
        return x
