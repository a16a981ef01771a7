"""OLMo, 1 to 3."""

from __future__ import annotations

import numpy as np

from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config
from burnish.frontends.rotary import rope_by_type
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import At, windows
from burnish.ir.graph import Value


class Olmo(Decoder):
    """Llama with norms that have no parameters, and bounds of queries, keys and values (arXiv:2402.00838)."""

    names = ("Olmo",)
    defaults = {"vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "max_position_embeddings": 2048}
    eps = ("", 1e-5)
    bias_fields = {"attention_bias": False}

    def setup(self, c: Config) -> None:
        self.bound = c.number("clip_qkv", 0.0)

    def norm(self, op: Layers, name: str, x: Value) -> Value:
        return self.standardized(op, x)

    def project(self, op: Layers, name: str, x: Value) -> Value:
        y = super().project(op, name, x)
        return op.minimum(op.maximum(y, -self.bound), self.bound) if self.bound and name in ("q", "k", "v") else y


class Olmo2(Decoder):
    """Llama with norms behind attention and MLP, and of all queries and all keys together (arXiv:2501.00656)."""

    names = ("Olmo2",)
    defaults = Olmo.defaults
    eps = ("rms_norm_eps", 1e-5)
    bias_fields = {"attention_bias": False}

    def qkv(self, op: Layers, x: Value, to: Value) -> tuple[Value, Value, Value]:
        q, k, v = super().qkv(op, x, to)
        return self.norm(op, "q_norm", q), self.norm(op, "k_norm", k), v

    def block(self, op: Layers, x: Value, at: At) -> Value:
        x = self.residual(op, x, lambda y: self.self_attention(op, y, at), after="post_attention_layernorm")
        return self.residual(op, x, lambda y: self.feed_forward(op, y), after="post_feedforward_layernorm")


class Olmo3(Olmo2):
    """OLMo 2, three of four layers within a window; positions are scaled in the others alone (arXiv:2512.13961)."""

    names = ("Olmo3",)
    defaults = {**Olmo.defaults, "sliding_window": 4096}

    def setup(self, c: Config) -> None:
        self.windows = windows(c, lambda layer: (layer + 1) % 4 > 0)
        self.near, self.far = rope_by_type(c, self.head_dim, ("", 5e5), ("rope_theta", 5e5))

    def frequencies(self, layer: int) -> np.ndarray:
        return self.near if self.windows[layer] else self.far
