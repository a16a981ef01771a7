"""Hunyuan."""

from typing import ClassVar

from burnish.frontends.family import At, Decoder, Layers, Rotation, Value, rope_section


class HunYuanDenseV1(Decoder):
    """Llama with norms of each head's queries and keys once they are rotated."""

    names = ("HunYuanDenseV1",)
    defaults = {"vocab_size": 290943, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32}
    eps = ("rms_norm_eps", 1e-5)
    bias_fields = {"attention_bias": False}
    inert: ClassVar[tuple[str, ...]] = (  # beside alpha; of heads, and of models that see
        *("factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_head_dim", "eod_token_id"),
        *("add_classification_head", "cla_share_factor", "class_num", "dense_list", "pool_type", "mask_init_id"),
        *("im_end_id", "im_newline_id", "im_start_id", "org_vocab_size", "pad_id", "text_end_id", "text_start_id"),
    )
    fixed = {"use_cla": False, "use_qk_norm": True, "use_rotary_pos_emb": True, "norm_type": "rms"}

    def frequencies(self, layer: int) -> Rotation:
        rotation = super().frequencies(layer)
        alpha = rope_section(self.config).number("alpha", 0.0) if rotation.limit else 0
        return Rotation(rotation.grown(alpha)) if alpha else rotation

    def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At) -> Value:
        q, k = self.norm(op, "query_layernorm", q), self.norm(op, "key_layernorm", k)
        return super().attend(op, q, k, v, at)
