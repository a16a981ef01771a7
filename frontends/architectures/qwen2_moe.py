"""Qwen 2 MoE and Qwen 3 MoE."""

from burnish.frontends.architectures.qwen2 import Qwen2
from burnish.frontends.architectures.qwen3 import Qwen3
from burnish.frontends.family import Config, Experts, Layers, SoftmaxOfAll, Value, windows


class Qwen2Moe(Experts):
    """Qwen 2 with experts in some blocks, and an MLP of all tokens beside them, with a gate (arXiv:2407.10671)."""

    names = ("Qwen2Moe",)
    defaults = {**Qwen2.defaults, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24}
    defaults |= {"num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 60, "num_experts_per_tok": 4}
    defaults |= {"moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632}
    fixed = Qwen2.fixed

    def setup(self, c: Config) -> None:
        used, first = c.flag("use_sliding_window", False), c.integer("max_window_layers", 28, least=0)
        self.windows = windows(c, lambda layer: used and layer % 2 == 0 and layer < first)
        self.biased = ("q", "k", "v") if c.flag("qkv_bias", True) else ()
        self.shared = c.integer("shared_expert_intermediate_size")
        self.route = SoftmaxOfAll(c.flag("norm_topk_prob", False))

    def sparse(self, layer: int) -> bool:
        c = self.config
        return (layer + 1) % c.integer("decoder_sparse_step", 1) == 0 and layer not in c.integers("mlp_only_layers")

    def mlp(self, op: Layers, x: Value) -> Value:
        with op.scope("shared_expert"):
            shared = self.gated(op, x, self.shared)
        return self.mixture(op, x) + op.sigmoid(op.linear("shared_expert_gate", x, 1)) * shared


class Qwen3Moe(Experts):
    """Qwen 3 with experts in some blocks (arXiv:2505.09388)."""

    names = ("Qwen3Moe",)
    defaults = {**Qwen2.defaults, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 24}
    defaults |= {"num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
    keys = {"num_experts": ("num_experts", "num_local_experts")}
    bias_fields = Qwen3.bias_fields
    fixed = Qwen2.fixed
    inert = ("max_window_layers",)  # all layers have a window, where any has
    each_head = Qwen3.each_head
    sparse = Qwen2Moe.sparse

    def setup(self, c: Config) -> None:
        used = c.flag("use_sliding_window", False) and c.has("sliding_window")
        self.windows = windows(c, lambda layer: used)
        self.route = SoftmaxOfAll(c.flag("norm_topk_prob", False))
