"""Persimmon."""

from __future__ import annotations

from burnish.frontends.architectures.phi import Phi
from burnish.frontends.config import Config
from burnish.frontends.stored import interleaved
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import ATTENTION, MLP


class Persimmon(Decoder):
    """Layer norms, of each head too, half of it rotated, an MLP of squares without a gate, q, k and v as one."""

    names = ("Persimmon",)
    defaults = {"vocab_size": 262144, "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 36}
    defaults |= {"num_attention_heads": 64, "max_position_embeddings": 16384}
    eps = ("layer_norm_eps", 1e-5)
    activation = ("hidden_act", "relu2")
    biased = ATTENTION + MLP
    rotated = 0.5
    paths = {**Decoder.paths, "o": "dense", "up": "dense_h_to_4h", "down": "dense_4h_to_h"}
    norm, mlp, each_head = Decoder.layer_norm, Decoder.plain_mlp, Phi.each_head

    def setup(self, c: Config) -> None:
        self.normed_heads = c.flag("qk_layernorm", True)
        qkv = interleaved("self_attn.query_key_value", self.outputs("q", "k", "v", under="self_attn"), self.heads)
        self.spelling = {"norm": "final_layernorm", **qkv}
