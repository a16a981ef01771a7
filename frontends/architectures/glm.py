"""GLM 4."""

from burnish.frontends.architectures.gemma import Gemma2
from burnish.frontends.family import Config, Decoder, joined


class Glm(Decoder):
    """Llama with biases of queries, keys and values; half of each head is rotated, in pairs of neighbours."""

    names = ("Glm",)
    defaults = {"vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40}
    defaults |= {"num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128}
    defaults |= {"max_position_embeddings": 1 << 17}
    eps = ("rms_norm_eps", 1.5625e-7)
    rotated, interleaved = 0.5, True

    def setup(self, c: Config) -> None:
        self.biased = ("q", "k", "v") if c.flag("attention_bias", True) else ()
        self.spelling = {**type(self).spelling, **joined("mlp.gate_up_proj", self.outputs("gate", "up", under="mlp"))}


class Glm4(Glm):
    """The same with a norm behind each part too (GLM-4-0414)."""

    names = ("Glm4",)
    block = Gemma2.block
    spelling = {"post_attention_layernorm": "post_self_attn_layernorm"}
    spelling |= {"pre_feedforward_layernorm": "post_attention_layernorm"}
    spelling |= {"post_feedforward_layernorm": "post_mlp_layernorm"}
