"""Llama, and the families that differ from it in what their configs say."""

from __future__ import annotations

from burnish.frontends.config import Config
from burnish.frontends.stored import Conventions
from burnish.frontends.templates.decoder import Decoder


class Llama(Decoder):
    """RMS norm, rotary positions, grouped-query attention, gated MLP (arXiv:2302.13971, 2307.09288)."""

    names = ("Llama",)
    defaults = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "max_position_embeddings": 2048}
    inert = ("is_llama_config",)
    gguf = {"llama": Conventions(interleaved_rope=True)}

    def setup(self, c: Config) -> None:
        attention, mlp = c.flag("attention_bias", False), c.flag("mlp_bias", False)
        self.biased = ("q", "k", "v", "o") * attention + ("gate", "up", "down") * mlp
