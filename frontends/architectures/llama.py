"""Llama, and families that differ from it by what they bias, rotate and activate."""

from burnish.frontends.family import ATTENTION, MLP, Config, Conventions, Decoder


class Llama(Decoder):
    """RMS norm, rotary positions, grouped-query attention, gated MLP (arXiv:2302.13971, 2307.09288)."""

    names = ("Llama",)
    defaults = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "max_position_embeddings": 2048}
    inert = ("is_llama_config",)
    bias_fields = {"attention_bias": False, "mlp_bias": False}
    gguf = {"llama": Conventions(interleaved_rope=True, rope_divisors="rope_freqs.weight")}


class Arcee(Decoder):
    """An MLP without a gate, of squares (AFM)."""

    names = ("Arcee",)
    defaults = {"vocab_size": 32000, "hidden_size": 2560, "intermediate_size": 18432, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "max_position_embeddings": 4096}
    eps = ("rms_norm_eps", 1e-5)
    activation = ("hidden_act", "relu2")
    bias_fields = {"attention_bias": False, "mlp_bias": False}
    mlp = Decoder.plain_mlp


class Helium(Decoder):
    """Interleaved pairs."""

    names = ("Helium",)
    defaults = {"vocab_size": 48000, "hidden_size": 2560, "intermediate_size": 7040, "num_hidden_layers": 24}
    defaults |= {"num_attention_heads": 20, "num_key_value_heads": 20, "head_dim": 128}
    defaults |= {"max_position_embeddings": 4096, "rope_theta": 100000.0}
    eps = ("rms_norm_eps", 1e-8)
    interleaved = True

    def setup(self, c: Config) -> None:
        self.biased = ("q", "k", "v") * c.flag("attention_bias", False) + MLP * c.flag("mlp_bias", False)


class Ernie4_5(Decoder):
    """Interleaved pairs, and biases everywhere or nowhere."""

    names = ("Ernie4_5",)
    defaults = {"vocab_size": 103424, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 18}
    defaults |= {"num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 128}
    defaults |= {"max_position_embeddings": 1 << 17, "rope_theta": 500000.0}
    eps = ("rms_norm_eps", 1e-5)
    ties = interleaved = True

    def setup(self, c: Config) -> None:
        self.biased = (ATTENTION + MLP) * c.flag("use_bias", False)


class SeedOss(Decoder):
    """Biases of queries, keys and values."""

    names = ("SeedOss",)
    defaults = {"vocab_size": 155136, "hidden_size": 4096, "intermediate_size": 27648, "num_hidden_layers": 64}
    defaults |= {"num_attention_heads": 80, "num_key_value_heads": 8, "head_dim": 128}
    defaults |= {"max_position_embeddings": 1 << 19}
    inert = ("residual_dropout",)

    def setup(self, c: Config) -> None:
        self.biased = ("q", "k", "v") * c.flag("attention_bias", True) + ("o",) * c.flag("attention_out_bias", False)
        self.biased += MLP * c.flag("mlp_bias", False)
