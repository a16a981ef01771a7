"""Mistral."""

from __future__ import annotations

from burnish.frontends.templates.decoder import Decoder


class Mistral(Decoder):
    """Llama, each token seeing the last `sliding_window` alone, itself included (arXiv:2310.06825)."""

    names = ("Mistral",)
    defaults = {"sliding_window": 4096, "max_position_embeddings": 1 << 17}

    def window(self, layer: int) -> int:
        return self.config.integer("sliding_window") if self.config.has("sliding_window") else 0
