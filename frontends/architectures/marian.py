"""Marian."""

from collections.abc import Sequence

from burnish.frontends.architectures.bart import Bart
from burnish.frontends.family import At, Config, Layers, LoadError, Value, sinusoids


class Marian(Bart):
    """BART with sinusoids, no norm of the words; encoder and decoder may have a vocabulary each (OPUS-MT)."""

    names = ("Marian",)
    defaults = Bart.defaults | {"vocab_size": 58101, "decoder_start_token_id": 58100}
    inert = ("extra_pos_embeddings",)
    fixed = {"normalize_embedding": False, "static_position_embeddings": True}
    first = 0
    embed = Bart.placed

    def setup(self, c: Config) -> None:
        self.shared, tied = c.flag("share_encoder_decoder_embeddings", True), c.flag("tie_word_embeddings", True)
        if not self.shared:
            self.decoder_keys = {**Bart.decoder_keys, "vocab_size": "decoder_vocab_size"}
        elif not tied and c.integer("decoder_vocab_size", self.vocabulary) != self.vocabulary:
            raise LoadError(f"{c.where}: decoder_vocab_size differs from vocab_size, but encoder and decoder share it")
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
