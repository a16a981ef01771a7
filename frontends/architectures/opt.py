"""OPT."""

import numpy as np

from burnish.frontends.family import ATTENTION, MLP, At, Config, Decoder, Layers, Value
from burnish.ir.ops.normalization import LayerNorm


class Opt(Decoder):
    """Learned positions, counted from 2; norms before or after each part, words of another width (arXiv:2205.01068)."""

    names = ("OPT",)
    keys = {"intermediate_size": "ffn_dim"}
    defaults = {"vocab_size": 50272, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    defaults |= {"intermediate_size": 3072, "max_position_embeddings": 2048}
    eps, activation, ties = ("", 1e-5), ("activation_function", "relu"), True
    paths = {**Decoder.paths, "o": "out_proj", "up": "fc1", "down": "fc2"}
    spelling = {n: f"decoder.{n}" for n in ("layers", "embed_tokens", "embed_positions", "project_in", "project_out")}
    spelling |= {"norm": "decoder.final_layer_norm", "input_layernorm": "self_attn_layer_norm"}
    spelling |= {"mlp.fc1": "fc1", "mlp.fc2": "fc2", "post_attention_layernorm": "final_layer_norm"}
    unused = ("decoder.version",)
    mlp = Decoder.plain_mlp

    def setup(self, c: Config) -> None:
        self.before, self.bare = c.flag("do_layer_norm_before", True), not c.flag("layer_norm_elementwise_affine", True)
        self.normed = self.before and not c.flag("_remove_final_layer_norm", False)
        self.words = c.integer("word_embed_proj_dim", self.width)
        self.biased = ATTENTION + MLP if c.flag("enable_bias", True) else ()

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        x = op.embedding("embed_tokens", ids, self.vocabulary, self.words)
        x = op.linear("project_in", x, self.width) if self.words != self.width else x
        rows = self.config.integer("max_position_embeddings") + 2
        return x + op.placed("embed_positions", at.positions, rows, self.width, 2)

    def rotate(self, op: Layers, x: Value, at: At) -> Value:
        return x

    def norm(self, op: Layers, name: str, x: Value) -> Value:
        if self.bare:
            return op.emit(LayerNorm(eps=self.epsilon), [x, op.constant(np.ones(self.width, "f4"))])
        return self.layer_norm(op, name, x)

    def block(self, op: Layers, x: Value, at: At) -> Value:
        if self.before:
            return super().block(op, x, at)
        x = self.norm(op, "input_layernorm", x + self.self_attention(op, x, at))
        return self.norm(op, "post_attention_layernorm", x + self.feed_forward(op, x))

    def final(self, op: Layers, x: Value) -> Value:
        x = super().final(op, x) if self.normed else x
        return op.linear("project_out", x, self.words) if self.words != self.width else x
