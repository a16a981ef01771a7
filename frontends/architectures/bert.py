"""BERT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.frontends.activations import ACTIVATIONS
from burnish.frontends.architecture import Architecture, Config, Layers, LoadError
from burnish.ir.graph import Value
from burnish.ir.signature import HIDDEN, LOGITS


class Bert(Architecture):
    """Encoder: learned positions, attention both ways, a norm after every sum (arXiv:1810.04805).

    All tokens are of type 0. The pooler, which reads the first token for a classifier, is not part of the graph.
    """

    names = ("BertModel",)
    base = "bert"
    outputs = {"forward": HIDDEN}
    task = "feature-extraction"
    unused = ("pooler.", "cls.")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        c = self.config
        c.choice("position_embedding_type", ["absolute"], "absolute")
        if c.flag("is_decoder", False):
            raise LoadError(f"{c.where}: is_decoder is true, but only encoders are supported")
        self.width, self.eps = c.integer("hidden_size"), c.number("layer_norm_eps", 1e-12)
        self.heads, self.head_dim = c.integer("num_attention_heads"), c.quotient("hidden_size", "num_attention_heads")
        self.activation = ACTIVATIONS[c.choice("hidden_act", ACTIVATIONS, "gelu")]

    def facts(self) -> dict[str, Any]:
        return {"context": self.config.integer("max_position_embeddings")}

    def forward(self, op: Layers, ids: Value, count: Value) -> Value:
        with op.scope("bert"):
            with op.scope("embeddings"):
                x = self.embed(op, ids)
            for i in range(self.config.integer("num_hidden_layers", most=1024)):
                with op.block("encoder.layer", i):
                    x = self.block(op, x, count)
        return x

    def embed(self, op: Layers, ids: Value) -> Value:
        c, width = self.config, self.width
        x = op.embedding("word_embeddings", ids, c.integer("vocab_size"), width)
        x = x + op.embedding("token_type_embeddings", op.constant([[0]], "i32"), c.integer("type_vocab_size"), width)
        positions = op.positions(ids)
        x = x + op.embedding("position_embeddings", positions, c.integer("max_position_embeddings"), width)
        return op.layer_norm("LayerNorm", x, self.eps)

    def block(self, op: Layers, x: Value, count: Value) -> Value:
        with op.scope("attention"):
            with op.scope("self"):
                y = self.attention(op, x, count)
            with op.scope("output"):
                x = op.layer_norm("LayerNorm", op.linear("dense", y, self.width, bias=True) + x, self.eps)
        y = op.linear("intermediate.dense", x, self.config.integer("intermediate_size"), bias=True)
        with op.scope("output"):
            y = op.linear("dense", self.activation(op, y), self.width, bias=True)
            return op.layer_norm("LayerNorm", y + x, self.eps)

    def attention(self, op: Layers, x: Value, count: Value) -> Value:
        heads = (*x.shape[:2], self.heads, self.head_dim)
        q, k, v = (op.reshape(op.linear(n, x, self.width, bias=True), shape=heads) for n in ("query", "key", "value"))
        return op.reshape(op.attention(q, k, v, None, count, scale=self.head_dim**-0.5), shape=x.shape)


class BertForMaskedLM(Bert):
    """BERT, and what each token might be: the table of tokens once more, as the head."""

    names = ("BertForMaskedLM",)
    outputs = {"forward": LOGITS}
    task = "fill-mask"
    unused = ("pooler.", "cls.seq_relationship.")

    def tied(self) -> Mapping[str, str]:
        bias = {"cls.predictions.decoder.bias": "cls.predictions.bias"}
        if not self.config.flag("tie_word_embeddings", True):
            return bias
        return bias | {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}

    def forward(self, op: Layers, ids: Value, count: Value) -> Value:
        x = super().forward(op, ids, count)
        with op.scope("cls.predictions"):
            with op.scope("transform"):
                x = self.activation(op, op.linear("dense", x, self.width, bias=True))
                x = op.layer_norm("LayerNorm", x, self.eps)
            return op.linear("decoder", x, self.config.integer("vocab_size"), bias=True)
