"""BERT."""

from __future__ import annotations

from burnish.frontends.templates.encoder import Encoder


class Bert(Encoder):
    """Learned positions, types of tokens, a norm after every sum (arXiv:1810.04805)."""

    names = ("Bert",)
    inert = (  # of the implementation that came first
        *("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"),
        *("pooler_size_per_head", "pooler_type"),
    )
