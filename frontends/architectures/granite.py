"""Granite 3, and others with factors where Llama has none."""

from burnish.frontends.family import At, Config, Decoder, Layers, Step, Value


class Granite(Decoder):
    """Llama with a factor for the embedding, the scores, each sum and the logits (arXiv:2408.13359)."""

    names = ("Granite",)
    defaults = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32}
    bias_fields = {"attention_bias": False, "mlp_bias": False}

    def setup(self, c: Config) -> None:
        self.scale = c.number("attention_multiplier", 1.0)
        self.embedded, self.added = c.number("embedding_multiplier", 1.0), c.number("residual_multiplier", 1.0)
        self.logits_scaling = c.number("logits_scaling", 1.0, least=1e-12)

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        return super().embed(op, ids, at) * self.embedded

    def residual(self, op: Layers, x: Value, step: Step, before: str = "", after: str = "") -> Value:
        y = step(self.norm(op, before, x))
        return x + (self.norm(op, after, y) if after else y) * self.added

    def logits(self, op: Layers, x: Value) -> Value:
        return op.div(super().logits(op, x), self.logits_scaling)
