"""StarCoder 2."""

from burnish.frontends.family import ATTENTION, MLP, Config, Decoder


class Starcoder2(Decoder):
    """Llama with layer norms, biases, an MLP without a gate, and a window in some (arXiv:2402.19173)."""

    names = ("Starcoder2",)
    defaults = {"vocab_size": 49152, "hidden_size": 3072, "intermediate_size": 12288, "num_hidden_layers": 30}
    defaults |= {"num_attention_heads": 24, "num_key_value_heads": 2, "max_position_embeddings": 4096}
    eps = ("norm_epsilon", 1e-5)
    activation = ("hidden_act", "gelu_pytorch_tanh")
    inert = (
        *("activation_function", "attention_softmax_in_fp32", "layer_norm_epsilon", "scale_attention_softmax_in_fp32"),
    )
    fixed = {"mlp_type": "default", "norm_type": "layer_norm", "scale_attn_weights": True}
    paths = {**Decoder.paths, "up": "c_fc", "down": "c_proj"}
    ties, norm, mlp = True, Decoder.layer_norm, Decoder.plain_mlp

    def setup(self, c: Config) -> None:
        self.biased = ATTENTION + MLP if c.flag("use_bias", True) else ()
        self.windows = [c.integer("sliding_window")] * self.layers if c.has("sliding_window") else ()
