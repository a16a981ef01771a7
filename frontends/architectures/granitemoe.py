"""Granite MoE."""

from burnish.frontends.architectures.granite import Granite
from burnish.frontends.family import Config, Experts, RowMap


class GraniteMoe(Granite, Experts):
    """Granite with experts, gate and up of all stored as one (arXiv:2407.13739)."""

    names = ("GraniteMoe",)
    keys = {"num_experts": "num_local_experts", "moe_intermediate_size": "intermediate_size"}
    defaults = {**Granite.defaults, "moe_intermediate_size": 11008, "num_experts": 8, "num_experts_per_tok": 2}
    bias_fields = {"attention_bias": False}

    def setup(self, c: Config) -> None:
        super().setup(c)
        gate, up = (RowMap("block_sparse_moe.input_linear", (self.inner,) * 2, i, behind=1) for i in (0, 1))
        self.spelling = {"mlp.experts.gate_proj": gate, "mlp.experts.up_proj": up}
        self.spelling |= {"mlp.experts.down_proj": RowMap("block_sparse_moe.output_linear", behind=1)}
        self.spelling |= {"mlp.gate": "block_sparse_moe.router.layer"}
        self.in_memory = {**self.fused("block_sparse_moe.experts"), "mlp.gate": "block_sparse_moe.router"}
