"""OLMo 2 and 3."""

from burnish.frontends.architectures.olmo import Olmo
from burnish.frontends.family import At, Config, Decoder, Layers, Rotation, Value, rope_by_type, windows


class Olmo2(Decoder):
    """Llama with norms behind attention and MLP, and of all queries and all keys together (arXiv:2501.00656)."""

    names = ("Olmo2",)
    defaults = Olmo.defaults
    eps = ("rms_norm_eps", 1e-5)
    bias_fields = {"attention_bias": False}

    def qkv(self, op: Layers, x: Value, to: Value) -> tuple[Value, Value, Value]:
        q, k, v = super().qkv(op, x, to)
        return self.norm(op, "q_norm", q), self.norm(op, "k_norm", k), v

    def block(self, op: Layers, x: Value, at: At) -> Value:
        x = self.residual(op, x, lambda y: self.self_attention(op, y, at), after="post_attention_layernorm")
        return self.residual(op, x, lambda y: self.feed_forward(op, y), after="post_feedforward_layernorm")


class Olmo3(Olmo2):
    """OLMo 2, three of four layers within a window; positions are scaled in the others alone (arXiv:2512.13961)."""

    names = ("Olmo3",)
    defaults = {**Olmo.defaults, "sliding_window": 4096}

    def setup(self, c: Config) -> None:
        self.windows = windows(c, lambda layer: (layer + 1) % 4 > 0)
        self.near, self.far = rope_by_type(c, self.head_dim, ("", 5e5), ("rope_theta", 5e5))

    def frequencies(self, layer: int) -> Rotation:
        return self.near if self.windows[layer] else self.far
