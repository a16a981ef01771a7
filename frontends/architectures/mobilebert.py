"""MobileBERT."""

from __future__ import annotations

from collections.abc import Mapping

from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config, LoadError
from burnish.frontends.pooling import first_token
from burnish.frontends.templates.encoder import Encoder
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value
from burnish.ir.ops.linear import Linear


class MobileBert(Encoder):
    """BERT in thin blocks, several MLPs in each, between wide states; factors in place of norms (arXiv:2004.02984)."""

    names = ("MobileBert",)
    defaults = {**Encoder.defaults, "hidden_size": 512, "num_hidden_layers": 24, "num_attention_heads": 4}
    defaults |= {"intermediate_size": 512}
    activation = ("hidden_act", "relu")
    inert = ("true_hidden_size",)  # said by `use_bottleneck`
    spelling = {"bert": "mobilebert"}

    @property
    def sizes(self) -> Mapping[str, int]:
        return {**dict.fromkeys("qkvo", self.thin), "up": self.intermediate, "down": self.thin}

    def setup(self, c: Config) -> None:
        self.table, self.trigram = c.integer("embedding_size", 128), c.flag("trigram_input", True)
        self.thins, thin = c.flag("use_bottleneck", True), c.integer("intra_bottleneck_size", 128)
        self.thin = thin if self.thins else self.width
        if self.thin % self.heads:
            raise LoadError(f"{c.where}: intra_bottleneck_size {self.thin} is not a multiple of {self.heads} heads")
        self.head_dim = self.thin // self.heads
        self.scale = self.head_dim**-0.5
        self.all_thin = c.flag("use_bottleneck_attention", False)
        self.shares = c.flag("key_query_shared_bottleneck", True)
        self.mlps = c.integer("num_feedforward_networks", 4, most=64)
        self.plain = c.choice("normalization_type", ("no_norm", "layer_norm"), "no_norm") == "no_norm"
        self.activates = c.flag("classifier_activation", True)

    def sum_norm(self, op: Layers, name: str, x: Value, eps: float | None = None) -> Value:
        """x * w + b or, with `normalization_type` layer_norm, that."""
        if not self.plain:
            return op.layer_norm(name, x, eps or self.epsilon)
        with op.scope(name):
            w, b = (op.cast(op.parameter(n, x.shape[-1]), to="f32") for n in ("weight", "bias"))
            return x * w + b

    def embed(self, op: Layers, ids: Value, token_types: Value, at: At) -> Value:
        c = self.config
        x = op.embedding("word_embeddings", ids, self.vocabulary, self.table)
        x = op.concat(*self.neighbours(op, x, at, 1)[::-1], axis=-1) if self.trigram else x
        if self.trigram or self.table != self.width:
            x = op.linear("embedding_transformation", x, self.width, bias=True)
        types = op.embedding("token_type_embeddings", token_types, c.integer("type_vocab_size", 2), self.width)
        rows = c.integer("max_position_embeddings", 512)
        x = x + op.placed("position_embeddings", at.positions, rows, self.width) + types
        return self.sum_norm(op, "LayerNorm", x, 1e-5)

    def thinned(self, op: Layers, name: str, x: Value) -> Value:
        """x through the bottleneck of that name."""
        with op.scope(f"bottleneck.{name}"):
            return self.sum_norm(op, "LayerNorm", op.linear("dense", x, self.thin, bias=True))

    def block(self, op: Layers, x: Value, at: At) -> Value:
        inner = self.thinned(op, "input", x) if self.thins else x
        asks, tells = (inner, inner) if self.thins and self.all_thin else (x, x)
        if self.thins and self.shares:
            shared = self.thinned(op, "attention", x)
            asks = asks if self.all_thin else shared
        with op.scope("attention"):
            q, k, v = (self.split(op, self.project(op, n, y)) for n, y in (("q", asks), ("k", asks), ("v", tells)))
            y = self.project(op, "o", self.joined(op, self.attend(op, q, k, v, at))) + inner
            y = self.sum_norm(op, "output.LayerNorm", y)
        for i in range(self.mlps - 1):
            with op.scope(f"ffn.{i}"):
                y = self.sum_norm(op, "output.LayerNorm", self.mlp(op, y) + y)
        y = self.sum_norm(op, "output.LayerNorm", self.mlp(op, y) + y, 1e-5)
        if not self.thins:
            return y
        y = op.linear("output.bottleneck.dense", y, self.width, bias=True) + x
        return self.sum_norm(op, "output.bottleneck.LayerNorm", y)

    def words(self, op: Layers, x: Value) -> Value:
        """The table of words gives the first numbers of each word, a matrix of the head the rest."""
        with op.scope("cls.predictions"):
            with op.scope("transform"):
                x = self.norm(op, "LayerNorm", self.act(op, op.linear("dense", x, self.width, bias=True)))
            w = op.parameter("decoder.weight", self.vocabulary, self.table)
            if self.width > self.table:
                rest = op.parameter("dense.weight", self.width - self.table, self.vocabulary)
                w = op.concat(w, op.transpose(rest, perm=(1, 0)), axis=1)
            return op.emit(Linear(), [x, w, op.parameter("decoder.bias", self.vocabulary)])

    def pooled(self, op: Layers, x: Value, count: Value) -> Value:
        return super().pooled(op, x, count) if self.activates else first_token(op, x)
