"""Llama."""

from __future__ import annotations

from burnish.frontends.stored import Conventions
from burnish.frontends.templates.decoder import Decoder


class Llama(Decoder):
    """RMS norm, rotary positions, grouped-query attention, gated MLP (arXiv:2302.13971, 2307.09288)."""

    names = ("Llama",)
    inert = ("is_llama_config",)
    bias_fields = {"attention_bias": False, "mlp_bias": False}
    gguf = {"llama": Conventions(interleaved_rope=True, rope_divisors="rope_freqs.weight")}
