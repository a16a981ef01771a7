"""Nemotron 3 and 4, and Minitron."""

from burnish.frontends.family import Decoder, Layers, Value
from burnish.ir.ops.normalization import LayerNorm


class Nemotron(Decoder):
    """Layer norms of 1 + weight, half of each head rotated, an MLP of squares without a gate (arXiv:2402.16819)."""

    names = ("Nemotron",)
    defaults = {"vocab_size": 256000, "hidden_size": 6144, "intermediate_size": 24576, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 48, "max_position_embeddings": 4096}
    eps = ("norm_eps", 1e-5)
    activation = ("hidden_act", "relu2")
    bias_fields = {"attention_bias": False, "mlp_bias": False}
    rotated = 0.5
    mlp = Decoder.plain_mlp

    def norm(self, op: Layers, name: str, x: Value) -> Value:
        with op.scope(name):
            weight, bias = (op.cast(op.parameter(n, self.width), to="f32") for n in ("weight", "bias"))
            return op.emit(LayerNorm(eps=self.epsilon), [x, weight + 1.0, bias])
