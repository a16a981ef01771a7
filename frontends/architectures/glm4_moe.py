"""GLM-4 MoE and dots.llm1."""

from __future__ import annotations

from burnish.frontends.architecture import Layers
from burnish.frontends.architectures.qwen3 import Qwen3
from burnish.frontends.config import Config
from burnish.frontends.templates.experts import Corrected, Experts
from burnish.frontends.templates.transformer import windows
from burnish.ir.graph import Value


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
        self.shared, self.first = (
            self.inner * c.integer("n_shared_experts"),
            c.integer("first_k_dense_replace", 0, least=0),
        )
        self.biased = ("q", "k", "v") if c.flag("attention_bias", False) else ()
        self.head_norms = c.flag("use_qk_norm", False)
        further = c.integer("num_mtp_layers", c.integer("num_nextn_predict_layers", 1, least=0), least=0)
        self.unused = tuple(
            f"layers.{self.layers + i}." for i in range(further)
        )  # they guess the tokens after the next

    def sparse(self, layer: int) -> bool:
        return layer >= self.first

    def each_head(self, op: Layers, name: str, x: Value) -> Value:
        return self.norm(op, f"{name}_norm", x) if self.head_norms else x


class Dots1(Experts):
    """Qwen 3 with corrected experts but for the first blocks (arXiv:2506.05767)."""

    names = ("Dots1",)
    keys = Glm4Moe.keys
    defaults = {"vocab_size": 152064, "hidden_size": 4608, "intermediate_size": 10944, "num_hidden_layers": 62}
    defaults |= {"num_attention_heads": 32, "num_key_value_heads": 32, "moe_intermediate_size": 1408}
    defaults |= {"sliding_window": 4096, "max_position_embeddings": 2048}
    bias_fields = Qwen3.bias_fields
    fixed = {"moe_layer_freq": 1, "scoring_func": "noaux_tc"}
    each_head, sparse = Qwen3.each_head, Glm4Moe.sparse

    def setup(self, c: Config) -> None:
        self.route = Corrected.of(c, self.experts)
        self.shared, self.first = (
            self.inner * c.integer("n_shared_experts"),
            c.integer("first_k_dense_replace", 0, least=0),
        )
        first = c.integer("max_window_layers", 62, least=0)
        self.windows = windows(c, lambda layer: c.has("sliding_window") and layer >= first)
