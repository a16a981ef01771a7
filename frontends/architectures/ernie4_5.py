"""ERNIE 4.5."""

from __future__ import annotations

from burnish.frontends.config import Config
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import ATTENTION, MLP


class Ernie4_5(Decoder):
    """Llama with interleaved pairs, and biases everywhere or nowhere."""

    names = ("Ernie4_5",)
    defaults = {"vocab_size": 103424, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 18}
    defaults |= {"num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 128}
    defaults |= {"max_position_embeddings": 1 << 17, "rope_theta": 500000.0}
    eps = ("rms_norm_eps", 1e-5)
    ties = interleaved = True

    def setup(self, c: Config) -> None:
        self.biased = (ATTENTION + MLP) * c.flag("use_bias", False)
