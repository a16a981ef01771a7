"""Phi-3."""

from __future__ import annotations

from burnish.frontends.architectures.mistral import Mistral
from burnish.frontends.stored import Spelling, joined


class Phi3(Mistral):
    """Mistral, whose q, k and v are stored as one, and gate and up (arXiv:2404.14219)."""

    names = ("Phi3",)
    defaults = {"max_position_embeddings": 4096}
    inert = ("original_max_position_embeddings",)  # of scaled positions, which say so themselves

    @property
    def spelling(self) -> Spelling:
        sizes = self.sizes
        qkv = joined("self_attn.qkv_proj", {f"self_attn.{n}_proj": sizes[n] for n in "qkv"})
        return qkv | joined("mlp.gate_up_proj", {f"mlp.{n}_proj": sizes[n] for n in ("gate", "up")})
