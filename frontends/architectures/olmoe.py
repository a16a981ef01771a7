"""OLMoE."""

from collections.abc import Sequence

from burnish.frontends.family import Config, Experts, Layers, SoftmaxOfAll, Value


class Olmoe(Experts):
    """Llama with experts, norms of all queries and all keys together, and bounds on q, k and v (arXiv:2409.02060)."""

    names = ("Olmoe",)
    keys = {"moe_intermediate_size": "intermediate_size", "num_experts": ("num_experts", "num_local_experts")}
    defaults = {"vocab_size": 50304, "hidden_size": 2048, "moe_intermediate_size": 2048, "num_hidden_layers": 16}
    defaults |= {"num_attention_heads": 16, "max_position_embeddings": 4096}
    defaults |= {"num_experts": 64, "num_experts_per_tok": 8}
    eps = ("rms_norm_eps", 1e-5)
    bias_fields = {"attention_bias": False}
    bound: float = 0.0

    def setup(self, c: Config) -> None:
        self.route = SoftmaxOfAll(c.flag("norm_topk_prob", False))
        self.bound = c.bound("clip_qkv")

    def qkv(self, op: Layers, x: Value, to: Value) -> Sequence[Value]:
        q, k, v = super().qkv(op, x, to)
        every = self.norm(op, "q_norm", q), self.norm(op, "k_norm", k), v
        return [op.maximum(op.minimum(y, self.bound), -self.bound) for y in every] if self.bound else every
