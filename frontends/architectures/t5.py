"""T5."""

from __future__ import annotations

from collections.abc import Mapping

from burnish.frontends.activations import ACTIVATIONS
from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config
from burnish.frontends.stored import Spelling
from burnish.frontends.templates.encoder_decoder import EncoderDecoder
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value

GATED = "gated-"


class T5(EncoderDecoder):
    """RMS norm, a bias by distance in place of positions, no 1/sqrt(d) (arXiv:1910.10683).

    v1.0 has an MLP with ReLU and a tied head on scaled states; v1.1 a gated MLP and a head of its own.
    """

    names = ("T5",)
    keys = {"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}
    keys |= {"head_dim": "d_kv", "intermediate_size": "d_ff"}
    decoder_keys = {"num_hidden_layers": ("num_decoder_layers", "num_layers")}
    eps = ("layer_norm_epsilon", 1e-6)
    biased = False
    scale = 1.0
    blocks = "block"
    paths = {n: n for n in "qkvo"} | {"gate": "wi_0", "up": "wi_1", "down": "wo"}
    inert = ("dense_act_fn", "is_gated_act", "n_positions")  # said by `feed_forward_proj`; there is no limit
    unused = ("EncDecAttention.relative_attention_bias.",)
    norm = EncoderDecoder.rms_norm

    def setup(self, c: Config) -> None:
        kind = c.choice("feed_forward_proj", [*ACTIVATIONS, *(GATED + name for name in ACTIVATIONS)], "relu")
        self.gated = kind.startswith(GATED)
        self.act = ACTIVATIONS["gelu_new" if kind == "gated-gelu" else kind.removeprefix(GATED)]

    def tied(self) -> Mapping[str, str]:
        names = ("lm_head", "encoder.embed_tokens", "decoder.embed_tokens")
        return {f"{name}.weight": "shared.weight" for name in names}

    def bias(self, op: Layers, x: Value, at: At) -> Value:
        return op.relative_bias(
            "block.0.layer.0.SelfAttention.relative_attention_bias",
            self.config.integer("relative_attention_num_buckets", 32),
            self.heads,
            query=x.shape[1],
            key=x.shape[1],
            bidirectional=not at.causal,
            max_distance=self.config.integer("relative_attention_max_distance", 128, most=1 << 16),
        )

    def block(self, op: Layers, x: Value, at: At) -> Value:
        with op.scope("layer.0"):
            y = self.norm(op, "layer_norm", x)
            with op.scope("SelfAttention"):
                x = x + self.attention(op, y, at)
        if at.encoded is not None:
            with op.scope("layer.1"):
                y = self.norm(op, "layer_norm", x)
                with op.scope("EncDecAttention"):
                    x = x + self.cross_attention(op, y, at)
        with op.scope("layer.1" if at.encoded is None else "layer.2"):
            y = self.norm(op, "layer_norm", x)
            with op.scope("DenseReluDense"):
                return x + self.mlp(op, y)

    @property
    def spelling(self) -> Spelling:
        return {} if self.gated else {"DenseReluDense.wi_1": "DenseReluDense.wi"}

    def mlp(self, op: Layers, x: Value) -> Value:
        return self.gated_mlp(op, x) if self.gated else self.plain_mlp(op, x)

    def final(self, op: Layers, x: Value) -> Value:
        return self.norm(op, "final_layer_norm", x)

    def logits(self, op: Layers, x: Value) -> Value:
        if self.config.flag("scale_decoder_outputs", self.config.flag("tie_word_embeddings", True)):
            x = x * self.width**-0.5
        return super().logits(op, x)
