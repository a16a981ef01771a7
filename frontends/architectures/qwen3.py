"""Qwen 3."""

from burnish.frontends.architectures.qwen2 import Qwen2
from burnish.frontends.family import Conventions, Layers, Value


class Qwen3(Qwen2):
    """Qwen 2 with a norm on each head's queries and keys in the place of biases (arXiv:2505.09388)."""

    names = ("Qwen3",)
    defaults = {**Qwen2.defaults, "head_dim": 128}
    biased = ()
    bias_fields = {"attention_bias": False}
    gguf = {"qwen3": Conventions()}

    def each_head(self, op: Layers, name: str, x: Value) -> Value:
        return self.norm(op, f"{name}_norm", x)
