"""OLMo, the first."""

from burnish.frontends.family import Config, Decoder, Layers, Value


class Olmo(Decoder):
    """Llama with norms that have no parameters, and bounds of queries, keys and values (arXiv:2402.00838)."""

    names = ("Olmo",)
    defaults = {"vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "max_position_embeddings": 2048}
    eps = ("", 1e-5)
    bias_fields = {"attention_bias": False}

    def setup(self, c: Config) -> None:
        self.bound = c.bound("clip_qkv")

    def norm(self, op: Layers, name: str, x: Value) -> Value:
        return self.standardized(op, x)

    def project(self, op: Layers, name: str, x: Value) -> Value:
        y = super().project(op, name, x)
        return op.minimum(op.maximum(y, -self.bound), self.bound) if self.bound and name in ("q", "k", "v") else y
