"""BioGPT."""

from __future__ import annotations

from burnish.frontends.architecture import Layers
from burnish.frontends.architectures.xglm import Xglm
from burnish.frontends.config import Config
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value


class BioGpt(Xglm):
    """XGLM with learned positions, counted from 2 (arXiv:2210.10341)."""

    names = ("BioGpt",)
    keys = {}
    defaults = {"vocab_size": 42384, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    defaults |= {"intermediate_size": 4096, "max_position_embeddings": 1024}
    activation = ("hidden_act", "gelu")
    inert = ("layer_norm_eps",)
    spelling = Xglm.spelling | {"model": "biogpt", "lm_head": "output_projection"}

    def setup(self, c: Config) -> None:
        self.factor = self.width**0.5 if c.flag("scale_embedding", True) else 1.0

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        rows = self.config.integer("max_position_embeddings") + 2
        place = op.placed("embed_positions", at.positions, rows, self.width, 2)
        return Decoder.embed(self, op, ids, at) * self.factor + place

    def score_tokens(self, op: Layers, x: Value, labels: int) -> Value:
        return op.linear("classifier", x, labels, bias=True)
