"""Encoder-decoders with sinusoids for positions: Marian, Pegasus, M2M100."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.frontends.architecture import Layers
from burnish.frontends.architectures.bart import Bart, MBart
from burnish.frontends.config import Config
from burnish.frontends.sinusoids import sinusoids
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value


class Marian(Bart):
    """BART without a norm of the words; encoder and decoder may have a vocabulary each (Marian NMT, OPUS-MT)."""

    names = ("Marian",)
    defaults = Bart.defaults | {"vocab_size": 58101, "decoder_start_token_id": 58100}
    inert = ("extra_pos_embeddings",)
    fixed = {"normalize_embedding": False, "static_position_embeddings": True}
    embed = Bart.placed

    def setup(self, c: Config) -> None:
        self.shared = c.flag("share_encoder_decoder_embeddings", True)
        if not self.shared:
            self.decoder_keys = {**Bart.decoder_keys, "vocab_size": "decoder_vocab_size"}
        c.get("decoder_vocab_size")  # says nothing where there is one vocabulary

    def tied(self) -> Sequence[Sequence[str]]:
        if self.shared:
            return super().tied()
        tied = self.config.flag("tie_word_embeddings", True)
        return [("model.decoder.embed_tokens.weight", "lm_head.weight")] if tied else []

    def place(self, op: Layers, at: At) -> Value:
        """A row of the table, which some files hold."""
        rows = self.config.integer("max_position_embeddings")
        if op.optional("embed_positions.weight", rows, self.width) is None:
            return sinusoids(op, at.positions, self.width)
        return Bart.place(self, op, at)

    first = 0


class Pegasus(Bart):
    """A norm before every part, and after the last; none of the words (arXiv:1912.08777)."""

    names = ("Pegasus",)
    defaults = Bart.defaults | {"decoder_start_token_id": 0}
    inert = ("extra_pos_embeddings",)
    fixed = MBart.fixed | Marian.fixed
    first = 0
    embed, place, part, final = Bart.placed, Marian.place, MBart.part, MBart.final


class M2M100(Bart):
    """Pegasus with positions counted from behind that of padding; NLLB too (arXiv:2010.11125, 2207.04672)."""

    names = ("M2M100",)
    defaults = Bart.defaults | {"vocab_size": 128112, "scale_embedding": True}
    activation = ("activation_function", "relu")
    inert = ("extra_pos_embeddings",)
    fixed = MBart.fixed | Marian.fixed
    unused = (*Bart.unused, ".embed_positions.weights")  # they follow from the config
    embed, part, final = Bart.placed, MBart.part, MBart.final

    def place(self, op: Layers, at: At) -> Value:
        first = self.config.integer("pad_token_id", 1, least=0) + 1
        return sinusoids(op, at.positions + first, self.width, closed=True)
