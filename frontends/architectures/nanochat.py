"""nanochat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config
from burnish.frontends.rotary import Rotation
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value
from burnish.ir.ops.normalization import RmsNorm


class NanoChat(Decoder):
    """Norms without weights, of each head once it is rotated, against the usual direction; an MLP of squares."""

    names = ("NanoChat",)
    defaults = {"vocab_size": 50304, "hidden_size": 768, "intermediate_size": 8192, "num_hidden_layers": 12}
    defaults |= {"num_attention_heads": 6, "max_position_embeddings": 2048}
    defaults |= {"final_logit_softcapping": 15.0}
    activation = ("hidden_act", "relu2")
    bias_fields = {"attention_bias": False}
    paths = {**Decoder.paths, "up": "fc1", "down": "fc2"}
    mlp = Decoder.plain_mlp

    def setup(self, c: Config) -> None:
        self.logit_cap = c.number("final_logit_softcapping", 0.0)  # null means that there is none

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        return self.norm(op, "", super().embed(op, ids, at))

    def norm(self, op: Layers, name: str, x: Value) -> Value:
        width = x.shape[-1]
        assert isinstance(width, int)
        return op.emit(RmsNorm(eps=self.epsilon), [x, op.constant(np.ones(width, np.float32))])

    def frequencies(self, layer: int) -> Rotation:
        usual = super().frequencies(layer)
        return replace(usual, inv_freq=-usual.inv_freq, beyond=None if usual.beyond is None else -usual.beyond)

    def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At) -> Value:
        return super().attend(op, self.norm(op, "", q), self.norm(op, "", k), v, at)

    def logits(self, op: Layers, x: Value) -> Value:
        y = super().logits(op, x)
        return op.tanh(y * (1 / self.logit_cap)) * self.logit_cap if self.logit_cap else y
