"""Helium."""

from __future__ import annotations

from burnish.frontends.config import Config
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import MLP


class Helium(Decoder):
    """Llama with interleaved pairs."""

    names = ("Helium",)
    defaults = {"vocab_size": 48000, "hidden_size": 2560, "intermediate_size": 7040, "num_hidden_layers": 24}
    defaults |= {"num_attention_heads": 20, "num_key_value_heads": 20, "head_dim": 128}
    defaults |= {"max_position_embeddings": 4096, "rope_theta": 100000.0}
    eps = ("rms_norm_eps", 1e-8)
    interleaved = True

    def setup(self, c: Config) -> None:
        self.biased = ("q", "k", "v") * c.flag("attention_bias", False) + MLP * c.flag("mlp_bias", False)
