"""Mistral."""

from __future__ import annotations

from burnish.frontends.config import Config
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import windows


class Mistral(Decoder):
    """Llama, each token seeing the last `sliding_window` alone, itself included (arXiv:2310.06825)."""

    names = ("Mistral",)
    defaults = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "num_key_value_heads": 8}
    defaults |= {"sliding_window": 4096, "max_position_embeddings": 1 << 17}

    def setup(self, c: Config) -> None:
        self.windows = windows(c, lambda layer: c.has("sliding_window"))
