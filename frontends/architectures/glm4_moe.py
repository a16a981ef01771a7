"""GLM-4 MoE."""

from burnish.frontends.family import Config, Corrected, Experts, Layers, Value


class Glm4Moe(Experts):
    """Llama with a half of each head rotated, and corrected experts but for the first blocks (arXiv:2508.06471)."""

    names = ("Glm4Moe",)
    keys = {"num_experts": ("n_routed_experts", "num_local_experts")}
    defaults = {"vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 10944, "num_hidden_layers": 46}
    defaults |= {"num_attention_heads": 96, "num_key_value_heads": 8, "max_position_embeddings": 131072}
    defaults |= {"moe_intermediate_size": 1408, "num_experts": 128, "num_experts_per_tok": 8, "n_shared_experts": 1}
    defaults |= {"first_k_dense_replace": 1, "norm_topk_prob": True}
    eps = ("rms_norm_eps", 1e-5)
    rotated = 0.5

    def setup(self, c: Config) -> None:
        self.route = Corrected.of(c, self.experts)
        self.shared = self.inner * c.integer("n_shared_experts")
        self.first = c.integer("first_k_dense_replace", 0, least=0)
        self.biased = ("q", "k", "v") if c.flag("attention_bias", False) else ()
        self.head_norms = c.flag("use_qk_norm", False)
        further = c.integer("num_mtp_layers", c.integer("num_nextn_predict_layers", 1, least=0), least=0)
        self.unused = tuple(f"layers.{self.layers + i}." for i in range(further))  # they guess further tokens

    def sparse(self, layer: int) -> bool:
        return layer >= self.first

    def each_head(self, op: Layers, name: str, x: Value) -> Value:
        return self.norm(op, f"{name}_norm", x) if self.head_norms else x
