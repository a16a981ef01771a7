"""What Qwen 2 to 3 compute of text in their models that see."""

from burnish.frontends.architectures.qwen2 import Qwen2
from burnish.frontends.architectures.qwen3 import Qwen3
from burnish.frontends.family import Decoder


class Qwen2VL(Qwen2):
    """Qwen 2, with other defaults (arXiv:2409.12191, 2502.13923)."""

    names = ("Qwen2VL", "Qwen2_5_VL")
    defaults = {"vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80}
    defaults |= {"num_attention_heads": 64, "num_key_value_heads": 8, "max_window_layers": 80}
    defaults |= {"max_position_embeddings": 1 << 15, "sliding_window": 4096, "rope_theta": 1e6}
    eps = ("rms_norm_eps", 1e-5)


class Qwen3VL(Decoder):
    """Qwen 3, whose layers all see all tokens (arXiv:2511.21631)."""

    names = ("Qwen3VL",)
    defaults = {"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128}
    defaults |= {"max_position_embeddings": 128000, "rope_theta": 5e5}
    bias_fields, each_head = Qwen3.bias_fields, Qwen3.each_head
