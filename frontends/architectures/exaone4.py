"""EXAONE 4."""

from burnish.frontends.architectures.olmo2 import Olmo2
from burnish.frontends.architectures.qwen3 import Qwen3
from burnish.frontends.family import At, Config, Decoder, Layers, Value, windows


class Exaone4(Decoder):
    """Norms after each part and of each head; three of four layers within a window, the others without positions.

    arXiv:2507.11407
    """

    names = ("Exaone4",)
    defaults = {"vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 2048}
    defaults |= {"sliding_window": 4096}
    eps = ("rms_norm_eps", 1e-5)
    block = Olmo2.block
    each_head = Qwen3.each_head

    def setup(self, c: Config) -> None:
        self.frequencies(0)  # read, whether any layer is rotated or not
        c.get("sliding_window_pattern")  # LLLG, in files that say the types of layers too
        every = 1 if c.has("layer_types") else c.integer("sliding_window_pattern", 4)
        self.windows = windows(c, lambda layer: c.has("sliding_window") and (layer + 1) % every > 0)

    def rotate(self, op: Layers, x: Value, at: At) -> Value:
        rotated = self.windows[at.layer] or not self.config.has("sliding_window")
        return super().rotate(op, x, at) if rotated else x
