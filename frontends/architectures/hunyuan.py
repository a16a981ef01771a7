"""Hunyuan."""

from __future__ import annotations

from burnish.frontends.architecture import Layers
from burnish.frontends.rotary import Rotation, rope_section
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value


class HunYuanDenseV1(Decoder):
    """Llama with norms of each head's queries and keys once they are rotated."""

    names = ("HunYuanDenseV1",)
    defaults = {"vocab_size": 290943, "max_position_embeddings": 2048}
    eps = ("rms_norm_eps", 1e-5)
    bias_fields = {"attention_bias": False}
    inert = ("eod_token_id", "factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")  # beside alpha

    def frequencies(self, layer: int) -> Rotation:
        rotation = super().frequencies(layer)
        alpha = rope_section(self.config).number("alpha", 0.0) if rotation.limit else 0
        return Rotation(rotation.grown(alpha)) if alpha else rotation

    def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At) -> Value:
        q, k = self.norm(op, "query_layernorm", q), self.norm(op, "key_layernorm", k)
        return super().attend(op, q, k, v, at)
