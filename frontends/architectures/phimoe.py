"""Phi-3.5 MoE."""

from dataclasses import dataclass

import numpy as np

from burnish.frontends.architectures.mistral import Mistral
from burnish.frontends.family import Config, Experts, Layers, LoadError, Rotation, Routed, Value, rope_section, windows


@dataclass(frozen=True)
class SparseMixer:
    """The two likeliest, each weighed among those that are nearly as likely (arXiv:2409.12136).

    The second is weighed without the first. Nearly: no further than 2 * jitter below, of the larger of both.
    """

    jitter: float

    def __call__(self, op: Layers, scores: Value, k: int) -> Routed:
        best, chosen = op.top_k(scores, k=2)
        first, second = (op.slice(best, axis=-1, start=i, stop=i + 1) for i in (0, 1))
        is_first = op.equal(op.slice(chosen, axis=-1, start=0, stop=1), op.iota(size=scores.shape[-1]))
        others = op.where(is_first, -np.inf, scores)
        return op.concat(
            self.weight(op, scores, scores, first), self.weight(op, others, scores, second), axis=-1
        ), chosen

    def weight(self, op: Layers, of: Value, scores: Value, best: Value) -> Value:
        """What a softmax says of the best one, [B, S, 1]."""
        below = op.div(best - scores, op.maximum(op.abs(scores), best))
        near = op.where(op.less_or_equal(below, 2 * self.jitter), of, -np.inf)
        return op.reduce_max(op.softmax(near, axis=-1), axes=(-1,))


class PhiMoe(Experts):
    """Mistral with layer norms, and two experts by a sparse mixer (arXiv:2404.14219)."""

    names = ("PhiMoE", "Phimoe")
    keys = {"num_experts": "num_local_experts", "moe_intermediate_size": "intermediate_size"}
    defaults = {**Mistral.defaults, "vocab_size": 32064, "sliding_window": None, "rope_theta": 1e6}
    defaults |= {"num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 6400}
    eps = ("rms_norm_eps", 1e-5)
    bias_fields = {"attention_bias": False}
    spelling = {"mlp": "block_sparse_moe", "gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    inert = ("input_jitter_noise",)
    norm = Experts.layer_norm

    def setup(self, c: Config) -> None:
        self.windows = windows(c, lambda layer: c.has("sliding_window"))
        self.in_memory = {**self.in_memory, "mlp.gate": "mlp.router"}
        self.route = SparseMixer(c.number("router_jitter_noise", 0.01))

    def frequencies(self, layer: int) -> Rotation:
        """In long texts too, those of short ones: only the factor depends on the length, in transformers."""
        rotation, section = super().frequencies(layer), rope_section(self.config)
        if section.get("rope_type") in (None, "default") and section.get("type") in (None, "default"):
            return rotation
        short, long = (section.number(key, least=1e-6) for key in ("short_mscale", "long_mscale"))
        if short != long:
            raise LoadError(f"{section.where}: short_mscale {short:g} and long_mscale {long:g} must be the same")
        return Rotation(rotation.inv_freq, short)

    def logits(self, op: Layers, x: Value) -> Value:
        return op.linear("lm_head", x, self.vocabulary, self.config.flag("lm_head_bias", False))
