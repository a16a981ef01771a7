"""Phi-3."""

from burnish.frontends.architectures.mistral import Mistral
from burnish.frontends.family import Config, joined


class Phi3(Mistral):
    """Mistral, whose q, k and v are stored as one, and gate and up (arXiv:2404.14219)."""

    names = ("Phi3",)
    defaults = {"vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "max_position_embeddings": 4096}
    defaults |= {"original_max_position_embeddings": 4096}
    eps = ("rms_norm_eps", 1e-5)
    rotated = 1.0
    fixed = {"full_attn_mod": 1, "interpolate_factor": 1}
    inert = ("original_max_position_embeddings",)  # of texts rotated by their length

    def setup(self, c: Config) -> None:
        super().setup(c)
        qkv = joined("self_attn.qkv_proj", self.outputs("q", "k", "v", under="self_attn"))
        self.spelling = qkv | joined("mlp.gate_up_proj", self.outputs("gate", "up", under="mlp"))
