"""The template of encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config
from burnish.frontends.pooling import first_token
from burnish.frontends.templates.transformer import At, Transformer
from burnish.ir.graph import Value

__all__ = ["Encoder"]


class Encoder(Transformer):
    """Each token sees all others: `embed`, and `block` after `block`.

    As it stands it is BERT: learned positions, a norm after every sum.
    """

    head = "Model"
    base = "bert"
    paths = {"q": "self.query", "k": "self.key", "v": "self.value", "o": "output.dense"}
    paths |= {"up": "intermediate.dense", "down": "output.dense"}
    defaults = {"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    defaults |= {"intermediate_size": 3072}

    @property
    def narrow(self) -> int:
        """The width of the tables of words, types and positions."""
        return self.width

    def setup(self, c: Config) -> None:
        c.choice("position_embedding_type", ["absolute"], "absolute")

    def tied(self) -> Sequence[Sequence[str]]:
        tied = [("cls.predictions.bias", "cls.predictions.decoder.bias")]
        if self.config.flag("tie_word_embeddings", True):
            tied.append(("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"))
        return tied

    def forward(self, op: Layers, ids: Value, token_types: Value, count: Value) -> Value:
        at = At(0, op.positions(ids), causal=False, count=count)
        with op.scope("embeddings"):
            x = self.embed(op, ids, token_types, at)
        at = replace(at, bias=self.bias(op, x, at))
        for layer in range(self.layers):
            with op.block("encoder.layer", layer):
                x = self.block(op, x, replace(at, layer=layer))
        return self.final(op, x)

    def embed(self, op: Layers, ids: Value, token_types: Value, at: At) -> Value:
        """Words, types and positions, and a norm of their sum."""
        c = self.config
        x = op.embedding("word_embeddings", ids, self.vocabulary, self.narrow)
        types = c.integer("type_vocab_size", 2, least=0)
        if types:
            x = x + op.embedding("token_type_embeddings", token_types, types, self.narrow)
        place = self.place(op, at)
        x = x if place is None else x + place
        return self.norm(op, "LayerNorm", x)

    def place(self, op: Layers, at: At) -> Value | None:
        """A row of a table for each position."""
        rows = self.config.integer("max_position_embeddings", 512)
        return op.placed("position_embeddings", at.positions, rows, self.narrow)

    def block(self, op: Layers, x: Value, at: At) -> Value:
        """A norm after each sum."""
        with op.scope("attention"):
            x = self.norm(op, "output.LayerNorm", self.attention(op, x, at) + x)
        return self.norm(op, "output.LayerNorm", self.mlp(op, x) + x)

    def final(self, op: Layers, x: Value) -> Value:
        """What follows the last block."""
        return x

    def neighbours(self, op: Layers, x: Value, at: At, side: int) -> list[Value]:
        """x of the token `side` places before each, …, of itself, … `side` places behind; zeros past the real ones."""
        assert at.count is not None
        batch, tokens, width = x.shape
        real = op.less(op.iota(size=tokens), op.unsqueeze(at.count, axes=(1,)))
        edge = op.broadcast_to(op.constant(0.0), shape=(batch, side, width))
        wide = op.concat(edge, op.where(op.unsqueeze(real, axes=(2,)), x, 0.0), edge, axis=1)
        return [op.slice(wide, axis=1, start=i, stop=tokens + i) for i in range(2 * side + 1)]

    # ----------------------------------------------------------------------------------------------- what heads rest on

    def words(self, op: Layers, x: Value) -> Value:
        """Scores of the words that each token might be."""
        with op.scope("cls.predictions"):
            with op.scope("transform"):
                x = self.norm(op, "LayerNorm", self.words_act(op, op.linear("dense", x, self.narrow, bias=True)))
            return op.linear("decoder", x, self.vocabulary, bias=True)

    def words_act(self, op: Layers, x: Value) -> Value:
        """The activation of `words`."""
        return self.act(op, x)

    def pooled(self, op: Layers, x: Value, count: Value) -> Value:
        """What the first token has gathered."""
        return op.tanh(op.linear("bert.pooler.dense", first_token(op, x), self.width, bias=True))

    def follows(self, op: Layers, x: Value, count: Value) -> Value:
        """Two scores for a pair: the second text goes on from the first, or is any other."""
        return op.linear("cls.seq_relationship", self.pooled(op, x, count), 2, bias=True)

    def score(self, op: Layers, x: Value, labels: int) -> Value:
        """A score for each label."""
        return op.linear("classifier", x, labels, bias=True)

    def score_tokens(self, op: Layers, x: Value, labels: int) -> Value:
        """The same for each token."""
        return self.score(op, self.predicted(op, x), labels)

    def span(self, op: Layers, x: Value) -> Value:
        """Two scores for each token: as the first of an answer, and as the last."""
        return op.linear("qa_outputs", self.predicted(op, x), 2, bias=True)

    def predicted(self, op: Layers, x: Value) -> Value:
        """What the heads that look at each token rest on."""
        return x
