"""X-MOD."""

from __future__ import annotations

from burnish.frontends.architecture import Layers
from burnish.frontends.architectures.roberta import Roberta
from burnish.frontends.config import Config, LoadError, shown
from burnish.frontends.templates.encoder import Encoder
from burnish.frontends.templates.transformer import At, Step
from burnish.ir.graph import Value


class Xmod(Roberta):
    """RoBERTa with an adapter for each language at the end of each block, of which one is built (arXiv:2205.06266)."""

    names = ("Xmod",)
    defaults = Encoder.defaults

    def setup(self, c: Config) -> None:
        super().setup(c)
        languages, self.language = c.get("languages") or ["en_XX"], c.get("default_language")
        if not isinstance(languages, list) or self.language not in languages:
            raise LoadError(
                f"{c.where}: default_language must say which of languages {shown(languages)} the texts are in, "
                f"not {shown(self.language)}"
            )
        self.unused = tuple(f"adapter_modules.{name}." for name in languages if name != self.language)
        self.early, self.narrow_by = c.flag("pre_norm", False), c.integer("adapter_reduction_factor", 2)
        self.normed_first = c.flag("ln_before_adapter", True)
        own, reused = c.flag("adapter_layer_norm", False), c.flag("adapter_reuse_layer_norm", True)
        self.adapter_norm = "output.adapter_layer_norm" if own else "output.LayerNorm" if reused else ""

    def block(self, op: Layers, x: Value, at: At) -> Value:
        with op.scope("attention"):
            x = self.around(op, x, lambda y: self.attention(op, y, at))
        return self.around(op, x, lambda y: self.mlp(op, y), lambda y: self.adapted(op, y))

    def around(self, op: Layers, x: Value, step: Step, then: Step = lambda y: y) -> Value:
        """A sum with a norm before it or after it, by `pre_norm`."""
        y = then(x + step(self.norm(op, "output.LayerNorm", x) if self.early else x))
        return y if self.early else self.norm(op, "output.LayerNorm", y)

    def adapted(self, op: Layers, x: Value) -> Value:
        """The adapter of the language, and a sum."""
        y = self.norm(op, self.adapter_norm, x) if self.adapter_norm else x
        with op.scope(f"output.adapter_modules.{self.language}"):
            thin = self.act(op, op.linear("dense1", y, self.width // self.narrow_by, bias=True))
            return op.linear("dense2", thin, self.width, bias=True) + (y if self.normed_first else x)

    def final(self, op: Layers, x: Value) -> Value:
        return self.norm(op, "encoder.LayerNorm", x) if self.early else x
