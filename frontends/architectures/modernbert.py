"""ModernBERT."""

from __future__ import annotations

from burnish.frontends.activations import ACTIVATIONS
from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config
from burnish.frontends.pooling import Pooling
from burnish.frontends.rotary import rope_frequencies
from burnish.frontends.stored import joined
from burnish.frontends.templates.encoder import Encoder
from burnish.frontends.templates.transformer import FULL, SLIDING, At, windows
from burnish.ir.graph import Value


class ModernBert(Encoder):
    """Norms before each part, rotary positions, a gated MLP, most layers within a window (arXiv:2412.13663)."""

    names = ("ModernBert",)
    keys = {"hidden_act": "hidden_activation", "rope_theta": "global_rope_theta", "sliding_window": "local_attention"}
    defaults = {"max_position_embeddings": 8192, "rope_theta": 160000.0, "sliding_window": 128}
    eps = ("norm_eps", 1e-5)
    inert = (*Encoder.inert, "deterministic_flash_attn", "layer_norm_eps", "position_embedding_type")
    inert += ("reference_compile", "repad_logits_with_grad", "sparse_pred_ignore_index", "sparse_prediction")
    paths = {n: f"attn.{n}" for n in "qkv"} | {"o": "attn.Wo", "gate": "mlp.gate", "up": "mlp.up", "down": "mlp.Wo"}

    def setup(self, c: Config) -> None:
        self.biased = (*"qkvo",) * c.flag("attention_bias", False) + ("gate", "up", "down") * c.flag("mlp_bias", False)
        self.pool, self.word_bias = c.choice("classifier_pooling", ("cls", "mean"), "cls"), c.flag("decoder_bias", True)
        self.norm_bias = c.flag("norm_bias", False)
        self.head_act = ACTIVATIONS[c.choice("classifier_activation", ACTIVATIONS, "gelu")]
        every, self.head_bias = c.integer("global_attn_every_n_layers", 3), c.flag("classifier_bias", False)
        self.windows = [n and n // 2 + 1 for n in windows(c, lambda layer: layer % every > 0)]  # half on each side
        near = c.of_family({"rope_theta": "local_rope_theta"}, {"rope_theta": 10000.0})
        self.far, self.near = (rope_frequencies(x, self.head_dim, of=of) for x, of in ((c, FULL), (near, SLIDING)))
        qkv = joined("attn.Wqkv", {f"attn.{n}": self.sizes[n] for n in "qkv"})
        mlp = joined("mlp.Wi", {f"mlp.{n}": self.sizes[n] for n in ("gate", "up")})
        names = {"bert": "model", "encoder.layer": "layers", "word_embeddings": "tok_embeddings"}
        self.spelling = {**names, "cls.predictions": "decoder", "cls.predictions.decoder": "decoder", **qkv, **mlp}

    def embed(self, op: Layers, ids: Value, token_types: Value, at: At) -> Value:
        return self.norm(op, "norm", op.embedding("word_embeddings", ids, self.vocabulary, self.width))

    def rotate(self, op: Layers, x: Value, at: At) -> Value:
        return op.rotary(x, at.positions, op.constant(self.near if self.windows[at.layer] else self.far))

    def block(self, op: Layers, x: Value, at: At) -> Value:
        x = self.residual(op, x, lambda y: self.attention(op, y, at), before="attn_norm" if at.layer else "")
        return self.residual(op, x, lambda y: self.gated_mlp(op, y), before="mlp_norm")

    def final(self, op: Layers, x: Value) -> Value:
        return self.norm(op, "final_norm", x)

    def predicted(self, op: Layers, x: Value) -> Value:
        return self.norm(op, "head.norm", self.head_act(op, op.linear("head.dense", x, self.width, self.head_bias)))

    def words(self, op: Layers, x: Value) -> Value:
        return op.linear("cls.predictions.decoder", self.predicted(op, x), self.vocabulary, self.word_bias)

    def span(self, op: Layers, x: Value) -> Value:
        return self.score(op, self.predicted(op, x), 2)

    def pooled(self, op: Layers, x: Value, count: Value) -> Value:
        return self.predicted(op, Pooling(self.pool, normalize=False).build(op, x, count))

    def score_tokens(self, op: Layers, x: Value, labels: int) -> Value:
        return self.score(op, self.predicted(op, x), labels)
