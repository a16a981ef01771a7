"""Mixtral."""

from __future__ import annotations

from burnish.frontends.architecture import Layers
from burnish.frontends.architectures.mistral import Mistral
from burnish.frontends.config import Config
from burnish.ir.graph import Value


class Mixtral(Mistral):
    """Mistral with experts in the place of the MLP, of which each token takes a few (arXiv:2401.04088)."""

    names = ("Mixtral",)
    defaults = {**Mistral.defaults, "sliding_window": None, "rope_theta": 1e6}
    eps = ("rms_norm_eps", 1e-5)
    spelling = {"mlp": "block_sparse_moe", "gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    inert = ("output_router_logits", "router_aux_loss_coef", "router_jitter_noise")  # of training

    def setup(self, c: Config) -> None:
        super().setup(c)
        self.experts, self.chosen = c.integer("num_local_experts", 8, most=4096), c.integer("num_experts_per_tok", 2)

    def mlp(self, op: Layers, x: Value) -> Value:
        weights, chosen = op.top_k(op.softmax(op.linear("gate", x, self.experts), axis=-1), k=self.chosen)
        weights = op.div(weights, op.reduce_sum(weights, axes=(-1,)))
        y = op.unsqueeze(x, axes=(2,))
        y = self.act(op, self.of_experts(op, "gate", y, chosen)) * self.of_experts(op, "up", y, chosen)
        y = self.of_experts(op, "down", y, chosen) * op.unsqueeze(weights, axes=(3,))
        return op.reduce_sum(y, axes=(2,), keepdims=False)

    def of_experts(self, op: Layers, name: str, x: Value, chosen: Value) -> Value:
        """A projection by the experts that each token takes: x[B, S, 1 or k, K] -> [B, S, k, N]"""
        return op.experts(f"{name}_proj", x, chosen, self.experts, self.sizes[name])
