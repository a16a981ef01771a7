"""Granite MoE."""

from __future__ import annotations

from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config
from burnish.frontends.stored import RowMap
from burnish.frontends.templates.experts import Experts
from burnish.frontends.templates.transformer import At, Step
from burnish.ir.graph import Value


class GraniteMoe(Experts):
    """Llama with experts, and multipliers of embeddings, scores, branches and logits (arXiv:2407.13739)."""

    names = ("GraniteMoe",)
    keys = {"num_experts": "num_local_experts", "moe_intermediate_size": "intermediate_size"}
    defaults = {"vocab_size": 32000, "hidden_size": 4096, "moe_intermediate_size": 11008, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "max_position_embeddings": 2048}
    defaults |= {"num_experts": 8, "num_experts_per_tok": 2}
    bias_fields = {"attention_bias": False}

    def setup(self, c: Config) -> None:
        self.scale = c.number("attention_multiplier", 1.0)
        self.logit_divisor = c.number("logits_scaling", 1.0, least=1e-6)
        self.embedding_scale = c.number("embedding_multiplier", 1.0)
        self.branch_scale = c.number("residual_multiplier", 1.0)
        gate, up = (RowMap("block_sparse_moe.input_linear", (self.inner,) * 2, i, behind=1) for i in (0, 1))
        self.spelling = {"mlp.experts.gate_proj": gate, "mlp.experts.up_proj": up}
        self.spelling |= {"mlp.experts.down_proj": RowMap("block_sparse_moe.output_linear", behind=1)}
        self.spelling |= {"mlp.gate": "block_sparse_moe.router.layer"}
        self.in_memory = {**self.fused("block_sparse_moe.experts"), "mlp.gate": "block_sparse_moe.router"}

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        return super().embed(op, ids, at) * self.embedding_scale

    def residual(self, op: Layers, x: Value, step: Step, before: str = "", after: str = "") -> Value:
        return super().residual(op, x, lambda y: step(y) * self.branch_scale, before, after)

    def logits(self, op: Layers, x: Value) -> Value:
        return op.div(super().logits(op, x), self.logit_divisor)
