"""Mistral."""

from __future__ import annotations

from burnish.frontends.config import Config
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import windows


class Mistral(Decoder):
    """Llama, each token seeing the last `sliding_window` alone, itself included (arXiv:2310.06825)."""

    names = ("Mistral",)
    defaults = {"sliding_window": 4096, "max_position_embeddings": 1 << 17}

    def setup(self, c: Config) -> None:
        self.windows = windows(c, lambda layer: c.has("sliding_window"))
