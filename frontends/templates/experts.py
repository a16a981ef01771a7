"""The template of decoders whose MLPs are mixtures of experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config, LoadError
from burnish.frontends.stored import RowMap
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value

__all__ = ["Corrected", "Experts", "Route", "Routed", "SoftmaxOfAll", "SoftmaxOfChosen"]

# --------------------------------------------------------------------------------------------------------------- routes

#: the weight of each expert that a token takes, f32[B, S, k], and their numbers, i32[B, S, k]
Routed = tuple[Value, Value]
#: how `k` experts are chosen, and weighed, by what the router says of each, f32[B, S, E]
Route = Callable[[Layers, Value, int], Routed]


@dataclass(frozen=True)
class SoftmaxOfChosen:
    """The likeliest, which add up to 1."""

    def __call__(self, op: Layers, scores: Value, k: int) -> Routed:
        best, chosen = op.top_k(scores, k=k)
        return op.softmax(best, axis=-1), chosen


@dataclass(frozen=True)
class SoftmaxOfAll:
    """The likeliest; where they are not to add up to 1, all do."""

    to_one: bool

    def __call__(self, op: Layers, scores: Value, k: int) -> Routed:
        weights, chosen = op.top_k(op.softmax(scores, axis=-1), k=k)
        return _to_one(op, weights) if self.to_one else weights, chosen


@dataclass(frozen=True)
class Corrected:
    """The likeliest, each by itself: chosen by what a correction makes of that, and weighed without (arXiv:2412.19437).

    Chosen are those in the `best` of `groups` of experts: by the two largest of each.
    """

    to_one: bool
    scale: float
    groups: int
    best: int

    @classmethod
    def of(cls, c: Config, experts: int) -> Corrected:
        """As a config in the words of DeepSeek V3 says. Raises LoadError."""
        groups, best = c.integer("n_group", 1), c.integer("topk_group", 1)
        if experts % groups:
            raise LoadError(f"{c.where}: n_routed_experts {experts} do not divide into n_group {groups}")
        return cls(c.flag("norm_topk_prob", False), c.number("routed_scaling_factor", 1.0), groups, best)

    def __call__(self, op: Layers, scores: Value, k: int) -> Routed:
        likely, experts = op.sigmoid(scores), scores.shape[-1]
        with op.scope("gate"):
            bias = op.parameter("e_score_correction_bias", experts)
        _, chosen = op.top_k(self.in_groups(op, likely + op.cast(bias, to="f32")), k=k)
        weights = op.gather_elements(likely, chosen, axis=-1)
        return (_to_one(op, weights) if self.to_one else weights) * self.scale, chosen

    def in_groups(self, op: Layers, scores: Value) -> Value:
        """The scores, those of experts in other groups than the best being -inf."""
        batch, tokens, experts = scores.shape
        if self.groups == 1:
            return scores
        assert isinstance(experts, int)
        apart = op.reshape(scores, shape=(batch, tokens, self.groups, experts // self.groups))
        two, _ = op.top_k(apart, k=2)
        _, chosen = op.top_k(op.reduce_sum(two, axes=(3,), keepdims=False), k=self.best)
        same = op.equal(op.unsqueeze(chosen, axes=(3,)), op.constant(np.arange(self.groups, dtype="i4")))
        shown = op.reduce_max(op.cast(same, to="i32"), axes=(2,), keepdims=False)  # [B, S, groups]
        apart = op.where(op.cast(op.unsqueeze(shown, axes=(3,)), to="bool"), apart, -np.inf)
        return op.reshape(apart, shape=scores.shape)


def _to_one(op: Layers, weights: Value) -> Value:
    return op.div(weights, op.reduce_sum(weights, axes=(-1,)) + 1e-20)


# ------------------------------------------------------------------------------------------------------------- template


class Experts(Decoder):
    """A decoder in whose blocks each token passes through a few of many MLPs (arXiv:1701.06538).

    As it stands, each block has experts, and nothing beside them.
    """

    inert: ClassVar[tuple[str, ...]] = (
        "output_router_logits",
        "router_aux_loss_coef",
        "router_jitter_noise",
    )  # training
    #: the width of an MLP that every token takes beside its experts, `shared_experts`; 0 for none
    shared: int = 0
    #: how a token's experts are chosen
    route: Route = SoftmaxOfChosen()
    #: whether the router's scores have a bias
    route_bias: bool = False

    def read(self, c: Config) -> None:
        self.experts, self.chosen = c.integer("num_experts", most=4096), c.integer("num_experts_per_tok", most=4096)
        self.inner = c.integer("moe_intermediate_size")
        self.in_memory = self.fused("mlp.experts")
        super().read(c)

    def fused(self, where: str) -> dict[str, str | RowMap]:
        """The spelling of experts that are stored as transformers has them in memory, at that path."""
        gate, up = (RowMap(f"{where}.gate_up_proj", (self.inner, self.inner), i, behind=1) for i in (0, 1))
        names = {"mlp.experts.gate_proj.weight": gate, "mlp.experts.up_proj.weight": up}
        return {**names, "mlp.experts.down_proj.weight": f"{where}.down_proj"}

    def sparse(self, layer: int) -> bool:
        """Whether a block has experts, or the MLP of a dense decoder."""
        return True

    def block(self, op: Layers, x: Value, at: At) -> Value:
        """Llama's, whose MLP is dense in some."""
        x = self.residual(op, x, lambda y: self.self_attention(op, y, at), before="input_layernorm")
        step = self.feed_forward if self.sparse(at.layer) else self.dense
        return self.residual(op, x, lambda y: step(op, y), before="post_attention_layernorm")

    def dense(self, op: Layers, x: Value) -> Value:
        """The MLP of a block without experts."""
        with op.scope("mlp"):
            return self.gated(op, x, self.intermediate)

    def gated(self, op: Layers, x: Value, width: int) -> Value:
        """down(act(gate(x)) * up(x)), as wide as that within"""
        gate, up = (op.linear(self.paths[n], x, width, n in self.biased) for n in ("gate", "up"))
        return op.linear(self.paths["down"], self.act(op, gate) * up, self.width, "down" in self.biased)

    def mlp(self, op: Layers, x: Value) -> Value:
        """What a token's experts say, and what is said to all."""
        y = self.mixture(op, x)
        if not self.shared:
            return y
        with op.scope("shared_experts"):
            return y + self.gated(op, x, self.shared)

    def mixture(self, op: Layers, x: Value) -> Value:
        """The sum of what a token's experts say, each by its weight."""
        weights, chosen = self.route(op, op.linear("gate", x, self.experts, self.route_bias), self.chosen)
        y = op.unsqueeze(x, axes=(2,))
        y = self.combined(op, *(self.of_experts(op, name, y, chosen) for name in ("gate", "up")))
        y = self.of_experts(op, "down", y, chosen) * op.unsqueeze(weights, axes=(3,))
        return op.reduce_sum(y, axes=(2,), keepdims=False)

    def combined(self, op: Layers, gate: Value, up: Value) -> Value:
        """What `down` takes of an expert."""
        return self.act(op, gate) * up

    def of_experts(self, op: Layers, name: str, x: Value, chosen: Value, bias: bool = False) -> Value:
        """A projection by the experts that each token takes: x[B, S, 1 or k, K] -> [B, S, k, N]"""
        width = self.width if name == "down" else self.inner
        return op.experts(self.paths[name], x, chosen, self.experts, width, bias)
