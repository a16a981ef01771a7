"""Seed-OSS."""

from __future__ import annotations

from burnish.frontends.config import Config
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import MLP


class SeedOss(Decoder):
    """Llama with biases of queries, keys and values."""

    names = ("SeedOss",)
    defaults = {"vocab_size": 155136, "hidden_size": 4096, "intermediate_size": 27648, "num_hidden_layers": 64}
    defaults |= {"num_attention_heads": 80, "num_key_value_heads": 8, "head_dim": 128}
    defaults |= {"max_position_embeddings": 1 << 19}
    inert = ("residual_dropout",)

    def setup(self, c: Config) -> None:
        self.biased = ("q", "k", "v") * c.flag("attention_bias", True) + ("o",) * c.flag("attention_out_bias", False)
        self.biased += MLP * c.flag("mlp_bias", False)
