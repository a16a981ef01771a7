"""Hunyuan MoE."""

from __future__ import annotations

from burnish.frontends.architectures.hunyuan import HunYuanDenseV1
from burnish.frontends.config import Config
from burnish.frontends.templates.experts import Experts


class HunYuanMoEV1(HunYuanDenseV1, Experts):
    """Hunyuan with experts beside the MLP of each block (arXiv:2411.02265)."""

    names = ("HunYuanMoEV1",)
    keys = {"num_experts": ("num_experts", "num_local_experts"), "moe_intermediate_size": "intermediate_size"}
    keys |= {"num_experts_per_tok": ("moe_topk", "num_experts_per_tok")}
    defaults = {**HunYuanDenseV1.defaults, "moe_intermediate_size": 11008, "num_experts": 1, "num_experts_per_tok": 1}
    spelling = {"mlp.gate": "mlp.gate.wg", "shared_experts": "shared_mlp"}

    def setup(self, c: Config) -> None:
        self.shared = self.inner
