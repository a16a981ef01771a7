"""Jais 2."""

from __future__ import annotations

from burnish.frontends.templates.decoder import Decoder


class Jais2(Decoder):
    """Llama with layer norms, biases, and an MLP of squares without a gate."""

    names = ("Jais2",)
    defaults = {"vocab_size": 150272, "hidden_size": 3328, "intermediate_size": 26624, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 26, "max_position_embeddings": 8192}
    eps = ("layer_norm_eps", 1e-5)
    activation = ("hidden_act", "relu2")
    bias_fields = {"attention_bias": True, "mlp_bias": True}
    norm, mlp = Decoder.layer_norm, Decoder.plain_mlp
