"""Llama."""

from __future__ import annotations

from burnish.frontends.stored import Conventions
from burnish.frontends.templates.decoder import Decoder


class Llama(Decoder):
    """RMS norm, rotary positions, grouped-query attention, gated MLP (arXiv:2302.13971, 2307.09288)."""

    names = ("Llama",)
    defaults = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "max_position_embeddings": 2048}
    inert = ("is_llama_config",)
    bias_fields = {"attention_bias": False, "mlp_bias": False}
    gguf = {"llama": Conventions(interleaved_rope=True, rope_divisors="rope_freqs.weight")}
