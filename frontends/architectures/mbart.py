"""mBART."""

from burnish.frontends.architectures.bart import Bart
from burnish.frontends.family import At, Layers, Step, Value


class MBart(Bart):
    """A norm before every part, and after the last (arXiv:2001.08210)."""

    names = ("MBart",)
    defaults = Bart.defaults | {"decoder_start_token_id": None}
    fixed = {"add_final_layer_norm": True, "normalize_before": True}

    def part(self, op: Layers, x: Value, at: At, name: str, step: Step) -> Value:
        y = self.norm(op, f"{name}_layer_norm", x)
        with op.scope(name):
            return x + step(y)

    def final(self, op: Layers, x: Value) -> Value:
        return self.norm(op, "layer_norm", x)
