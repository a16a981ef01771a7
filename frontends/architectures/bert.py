"""BERT."""

from __future__ import annotations

from burnish.frontends.templates.encoder import Encoder


class Bert(Encoder):
    """Learned positions, types of tokens, a norm after every sum (arXiv:1810.04805)."""

    names = ("Bert",)
