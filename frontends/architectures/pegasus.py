"""Pegasus."""

from burnish.frontends.architectures.bart import Bart
from burnish.frontends.architectures.marian import Marian
from burnish.frontends.architectures.mbart import MBart


class Pegasus(Bart):
    """Marian with a norm before every part, and after the last (arXiv:1912.08777)."""

    names = ("Pegasus",)
    defaults = Bart.defaults | {"decoder_start_token_id": 0}
    inert = ("extra_pos_embeddings",)
    fixed = MBart.fixed | Marian.fixed
    first = 0
    embed, place, part, final = Bart.placed, Marian.place, MBart.part, MBart.final
