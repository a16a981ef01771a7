"""Mixtral."""

from burnish.frontends.architectures.mistral import Mistral
from burnish.frontends.family import Experts


class Mixtral(Experts):
    """Mistral with experts in the place of the MLP, of which each token takes a few (arXiv:2401.04088)."""

    names = ("Mixtral",)
    keys = {"num_experts": "num_local_experts", "moe_intermediate_size": "intermediate_size"}
    defaults = {**Mistral.defaults, "sliding_window": None, "rope_theta": 1e6}
    defaults |= {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 14336}
    eps = ("rms_norm_eps", 1e-5)
    spelling = {"mlp": "block_sparse_moe", "gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    setup = Mistral.setup
