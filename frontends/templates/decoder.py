"""The template of decoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from burnish.frontends.architecture import Layers
from burnish.frontends.rotary import Rotation, rope_frequencies
from burnish.frontends.templates.transformer import ATTENTION, MLP, At, Transformer
from burnish.ir.graph import Value

__all__ = ["Decoder"]


class Decoder(Transformer):
    """Each token goes on from those before it: `embed`, `block` after `block`, `final`, and the head's `logits`.

    As it stands it is Llama: RMS norms before each part, rotary positions, grouped heads, a gated MLP.
    """

    base = "model"
    eps = ("rms_norm_eps", 1e-6)
    activation = ("hidden_act", "silu")
    biased: Sequence[str] = ()
    paths = {n: f"{n}_proj" for n in ATTENTION + MLP}
    #: whether the head is the table of tokens, where the config does not say
    ties: bool = False
    #: the share of each head that is rotated, where `partial_rotary_factor` does not say; None: all, whatever that says
    rotated: float | None = None
    #: whether the rotated pairs are neighbours
    interleaved: bool = False

    mlp = Transformer.gated_mlp
    norm = Transformer.rms_norm

    def tied(self) -> Sequence[Sequence[str]]:
        tied = self.config.flag("tie_word_embeddings", self.ties)
        return [("model.embed_tokens.weight", "lm_head.weight")] if tied else []

    def forward(self, op: Layers, ids: Value) -> Value:
        at = At(0, op.positions(ids), causal=True)
        x = self.embed(op, ids, at)
        for layer in range(self.layers):
            with op.block("layers", layer):
                x = self.block(op, x, replace(at, layer=layer))
        return self.final(op, x)

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        """Rows of the table of tokens."""
        return op.embedding("embed_tokens", ids, self.vocabulary, self.width)

    def block(self, op: Layers, x: Value, at: At) -> Value:
        """A norm before each part, and a sum after it."""
        x = self.residual(op, x, lambda y: self.self_attention(op, y, at), before="input_layernorm")
        return self.residual(op, x, lambda y: self.feed_forward(op, y), before="post_attention_layernorm")

    def self_attention(self, op: Layers, x: Value, at: At) -> Value:
        """`attention` under its name."""
        with op.scope("self_attn"):
            return self.attention(op, x, at)

    def feed_forward(self, op: Layers, x: Value) -> Value:
        """`mlp` under its name."""
        with op.scope("mlp"):
            return self.mlp(op, x)

    def frequencies(self, layer: int) -> Rotation:
        """How the heads of a block are rotated."""
        return rope_frequencies(self.config, self.head_dim, self.rotated)

    def rotate(self, op: Layers, x: Value, at: At) -> Value:
        return op.rotary(x, at.positions, self.frequencies(at.layer), self.interleaved)

    def final(self, op: Layers, x: Value) -> Value:
        """The norm after the last block."""
        return self.norm(op, "norm", x)

    def pooled(self, op: Layers, x: Value, count: Value) -> Value:
        """The last real token, which has seen all others."""
        return op.squeeze(op.last_row(x, count), axes=(1,))

    def score(self, op: Layers, x: Value, labels: int) -> Value:
        """A score for each label."""
        return op.linear("score", x, labels)

    def score_tokens(self, op: Layers, x: Value, labels: int) -> Value:
        """The same of each token."""
        return op.linear("score", x, labels, bias=True)

    def span(self, op: Layers, x: Value) -> Value:
        """How likely each token is the first and the last of the answer."""
        return op.linear("qa_outputs", x, 2, bias=True)
