"""ModernBERT as a decoder: Ettin."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.frontends.activations import ACTIVATIONS
from burnish.frontends.architecture import Layers
from burnish.frontends.architectures.modernbert import ModernBert
from burnish.frontends.config import Config
from burnish.frontends.rotary import Rotation, rope_frequencies
from burnish.frontends.stored import joined
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import FULL, SLIDING, At, windows
from burnish.ir.graph import Value


class ModernBertDecoder(Decoder):
    """ModernBERT whose tokens see those before them alone, most layers half of a window (arXiv:2507.11412)."""

    names = ("ModernBertDecoder",)
    keys = {"hidden_act": "hidden_activation", "sliding_window": ("sliding_window", "local_attention")}
    eps, bias_fields = ModernBert.eps, ModernBert.bias_fields
    defaults = {"vocab_size": 50368, "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22}
    defaults |= {"num_attention_heads": 12, "max_position_embeddings": 8192, "sliding_window": 128}
    activation = ("hidden_act", "gelu")
    inert = ModernBert.inert
    ties = True
    paths = {**Decoder.paths, "o": "Wo", "down": "Wo"}
    spelling = {"embed_tokens": "embeddings.tok_embeddings", "embed_norm": "embeddings.norm", "norm": "final_norm"}
    spelling |= {"lm_head.last": "lm_head.norm", "head.last": "head.norm"}
    spelling |= {"input_layernorm": "attn_norm", "post_attention_layernorm": "mlp_norm", "self_attn": "attn"}
    norm = Decoder.layer_norm

    def setup(self, c: Config) -> None:
        self.norm_bias, self.head_bias = c.flag("norm_bias", False), c.flag("classifier_bias", False)
        self.word_bias = c.flag("decoder_bias", True)
        self.head_act = ACTIVATIONS[c.choice("classifier_activation", ACTIVATIONS, "gelu")]
        every = c.integer("global_attn_every_n_layers", 3)
        parts = 1 if c.values.get("sliding_window") else 2  # of `local_attention`, which is of both sides
        self.windows = [n // parts for n in windows(c, lambda i: i % every > 0)]
        self.near = rope_frequencies(c, self.head_dim, of=SLIDING, theta=("local_rope_theta", 10000.0))
        self.far = rope_frequencies(c, self.head_dim, of=FULL, theta=("global_rope_theta", 160000.0))
        self.spelling = {**type(self).spelling, **joined("mlp.Wi", self.outputs("gate", "up", under="mlp"))}

    def tied(self) -> Sequence[Sequence[str]]:
        tied = self.config.flag("tie_word_embeddings", self.ties)
        return [("model.embed_tokens.weight", "decoder.weight")] if tied else []

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        return self.norm(op, "embed_norm", super().embed(op, ids, at))

    def block(self, op: Layers, x: Value, at: At) -> Value:
        before = "input_layernorm" if at.layer else ""
        x = self.residual(op, x, lambda y: self.self_attention(op, y, at), before=before)
        return self.residual(op, x, lambda y: self.feed_forward(op, y), before="post_attention_layernorm")

    def frequencies(self, layer: int) -> Rotation:
        return self.near if self.windows[layer] else self.far

    def predicted(self, op: Layers, name: str, x: Value) -> Value:
        """What heads see of a state."""
        y = self.head_act(op, op.linear(f"{name}.dense", x, self.width, self.head_bias))
        return op.layer_norm(f"{name}.last", y, self.epsilon, self.norm_bias)

    def logits(self, op: Layers, x: Value) -> Value:
        return op.linear("decoder", self.predicted(op, "lm_head", x), self.vocabulary, self.word_bias)

    def score(self, op: Layers, x: Value, labels: int) -> Value:
        return op.linear("classifier", self.predicted(op, "head", x), labels, self.head_bias)
