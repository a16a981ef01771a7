"""umT5."""

from dataclasses import replace

from burnish.frontends.architectures.t5 import MT5, T5
from burnish.frontends.family import At, Config, Layers, Value


class UMT5(T5):
    """mT5 with a bias by distance in every block; transformers' head always scales (arXiv:2304.09151)."""

    names = ("UMT5",)
    defaults, mlp_kind = MT5.defaults, MT5.mlp_kind

    def setup(self, c: Config) -> None:
        super().setup(c)
        self.scaled = True

    def bias(self, op: Layers, x: Value, at: At) -> Value | None:
        return None

    def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At) -> Value:
        bias = self.relative_bias(op, "relative_attention_bias", q.shape[1], bidirectional=not at.causal)
        return super().attend(op, q, k, v, replace(at, bias=bias))
