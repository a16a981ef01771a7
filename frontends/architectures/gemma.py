"""Gemma, 1 to 3."""

from typing import ClassVar

import numpy as np

from burnish.frontends.architectures.qwen3 import Qwen3
from burnish.frontends.family import ACTIVATIONS, At, Config, Decoder, Layers, LoadError, Value, windows
from burnish.frontends.rotary import Rotation, rope_by_type
from burnish.ir.types import NUMPY


class Gemma2(Decoder):
    """Norms before and after each part, every other layer within a window, soft caps (arXiv:2408.00118)."""

    names: ClassVar[tuple[str, ...]] = ("Gemma2",)
    defaults = {"vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26}
    defaults |= {"num_attention_heads": 8}
    defaults |= {"num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 8192, "sliding_window": 4096}
    defaults |= {"query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    bias_fields = {"attention_bias": False}
    ties = True
    activation = ("hidden_activation", "gelu_pytorch_tanh")
    inert = ("hidden_act", "cache_implementation", "sliding_window_size")

    def setup(self, c: Config) -> None:
        if c.flag("use_bidirectional_attention", False):
            raise LoadError(f"{c.where}: use_bidirectional_attention is true, but only causal attention is supported")
        self.windows = windows(c, lambda layer: layer % 2 == 0)
        self.scale = c.number("query_pre_attn_scalar", least=1e-6) ** -0.5
        self.softcap = c.bound("attn_logit_softcapping")
        self.logit_cap = c.bound("final_logit_softcapping")

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        table = op.parameter("embed_tokens.weight", self.vocabulary, self.width)
        scale = np.float32(self.width**0.5).astype(NUMPY.get(table.dtype, np.float32))
        return op.embedding("embed_tokens", ids, self.vocabulary, self.width) * float(scale)

    def block(self, op: Layers, x: Value, at: At) -> Value:
        norms = "input_layernorm", "post_attention_layernorm"
        x = self.residual(op, x, lambda y: self.self_attention(op, y, at), *norms)
        norms = "pre_feedforward_layernorm", "post_feedforward_layernorm"
        return self.residual(op, x, lambda y: self.feed_forward(op, y), *norms)

    def norm(self, op: Layers, name: str, x: Value) -> Value:
        return op.rms_norm(name, x, self.epsilon, offset=1.0)

    def logits(self, op: Layers, x: Value) -> Value:
        y = super().logits(op, x)
        return op.tanh(op.div(y, self.logit_cap)) * self.logit_cap if self.logit_cap else y


class Gemma(Decoder):
    """Llama with norms of 1 + weight and embeddings times the root of their width (arXiv:2403.08295)."""

    names = ("Gemma",)
    defaults = {"vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28}
    defaults |= {"num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256}
    defaults |= {"max_position_embeddings": 8192}
    bias_fields = {"attention_bias": False}
    ties = True
    activation = ("hidden_act", "gelu_pytorch_tanh")
    inert = ("hidden_activation",)
    embed, norm = Gemma2.embed, Gemma2.norm

    def setup(self, c: Config) -> None:
        if c.flag("use_bidirectional_attention", False):
            raise LoadError(f"{c.where}: use_bidirectional_attention is true, but only causal attention is supported")
        if c.get("hidden_act") == "gelu":  # what the first files say, of models that were trained with the other
            self.act = ACTIVATIONS["gelu_pytorch_tanh"]


class Gemma3(Gemma2):
    """Gemma 2 with norms of heads for soft caps, five of six layers within a window, with their own base (2503.19786).

    EmbeddingGemma sees both ways, half of the window each.
    """

    names = ("Gemma3", "Gemma3Text")
    defaults = {**Gemma2.defaults, "vocab_size": 262208, "max_position_embeddings": 1 << 17}
    defaults |= {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    each_head = Qwen3.each_head

    def setup(self, c: Config) -> None:
        every = c.integer("sliding_window_pattern", 6)
        self.windows = windows(c, lambda layer: (layer + 1) % every > 0)
        self.causal = not c.flag("use_bidirectional_attention", False)
        if not self.causal:
            self.windows = [n and n // 2 + 1 for n in self.windows]
        self.scale = c.number("query_pre_attn_scalar", least=1e-6) ** -0.5
        self.logit_cap = c.bound("final_logit_softcapping")
        self.near, self.far = rope_by_type(c, self.head_dim, ("rope_local_base_freq", 1e4), ("rope_theta", 1e6))

    def frequencies(self, layer: int) -> Rotation:
        return self.near if self.windows[layer] else self.far
