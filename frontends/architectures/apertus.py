"""Apertus."""

from __future__ import annotations

from burnish.frontends.architecture import Layers
from burnish.frontends.architectures.qwen3 import Qwen3
from burnish.frontends.config import Config
from burnish.frontends.templates.decoder import Decoder
from burnish.ir.graph import Value


class Apertus(Decoder):
    """Norms of each head, and an MLP without a gate, whose activation is learned (arXiv:2509.14233, 2411.13010)."""

    names = ("Apertus",)
    defaults = {"vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "max_position_embeddings": 1 << 16, "rope_theta": 12e6}
    defaults["rope_parameters"] = {
        **{"rope_type": "llama3", "rope_theta": 12e6, "factor": 8.0, "original_max_position_embeddings": 8192},
        **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
    }
    eps = ("rms_norm_eps", 1e-5)
    activation = ("", "relu")
    bias_fields = {"attention_bias": False}
    fixed = {"post_norm": False, "qk_norm": True}
    spelling = {"input_layernorm": "attention_layernorm", "post_attention_layernorm": "feedforward_layernorm"}
    each_head = Qwen3.each_head

    def setup(self, c: Config) -> None:
        c.choice("hidden_act", ("xielu",), "xielu")

    def mlp(self, op: Layers, x: Value) -> Value:
        x = self.project(op, "up", x)
        with op.scope("act_fn"):
            rise, fall = (op.softplus(op.cast(op.parameter(f"alpha_{n}", 1), to="f32")) for n in ("p", "n"))
            slope, most = (op.cast(op.parameter(n), to="f32") for n in ("beta", "eps"))
        negative = (op.exp(op.minimum(x, most)) - 1.0 - x) * (fall + slope)
        return self.project(op, "down", op.where(op.less(0.0, x), rise * x * x, negative) + slope * x)
