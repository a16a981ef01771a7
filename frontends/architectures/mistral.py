"""Mistral."""

from __future__ import annotations

from burnish.frontends.architecture import Config, Layers
from burnish.frontends.architectures.llama import Llama
from burnish.ir.graph import Value


class Mistral(Llama):
    """Llama, each token attending to the last `sliding_window` alone, itself included (arXiv:2310.06825)."""

    names = ("MistralForCausalLM",)
    defaults = {"sliding_window": 4096, "max_position_embeddings": 1 << 17}

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.window = self.config.integer("sliding_window") if self.config.has("sliding_window") else 0

    def attend(self, op: Layers, q: Value, k: Value, v: Value, layer: int) -> Value:
        return op.attention(q, k, v, causal=True, scale=self.head_dim**-0.5, window=self.window)
