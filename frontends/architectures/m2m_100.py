"""M2M100, and NLLB."""

from burnish.frontends.architectures.bart import Bart
from burnish.frontends.architectures.mbart import MBart
from burnish.frontends.architectures.pegasus import Pegasus
from burnish.frontends.family import At, Layers, Value, sinusoids


class M2M100(Bart):
    """Pegasus with positions counted from behind that of padding (arXiv:2010.11125, 2207.04672)."""

    names = ("M2M100",)
    defaults = Bart.defaults | {"vocab_size": 128112, "scale_embedding": True}
    activation = ("activation_function", "relu")
    inert, fixed = Pegasus.inert, Pegasus.fixed
    unused = (*Bart.unused, ".embed_positions.weights")  # they follow from the config
    embed, part, final = Bart.placed, MBart.part, MBart.final

    def place(self, op: Layers, at: At) -> Value:
        first = self.config.integer("pad_token_id", 1, least=0) + 1
        return sinusoids(op, at.positions + first, self.width, closed=True)
