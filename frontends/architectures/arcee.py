"""Arcee's AFM."""

from __future__ import annotations

from burnish.frontends.templates.decoder import Decoder


class Arcee(Decoder):
    """Llama with an MLP that has no gate, of squares."""

    names = ("Arcee",)
    defaults = {"vocab_size": 32000, "hidden_size": 2560, "intermediate_size": 18432, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "max_position_embeddings": 4096}
    eps = ("rms_norm_eps", 1e-5)
    activation = ("hidden_act", "relu2")
    bias_fields = {"attention_bias": False, "mlp_bias": False}
    mlp = Decoder.plain_mlp
