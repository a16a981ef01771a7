"""Qwen 2 and 2.5."""

from collections.abc import Sequence
from typing import ClassVar

from burnish.frontends.family import Config, Conventions, Decoder, windows


class Qwen2(Decoder):
    """Llama with biases of queries, keys and values; a window, where used, from some layer on (arXiv:2407.10671)."""

    names: ClassVar[tuple[str, ...]] = ("Qwen2",)
    defaults = {"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "num_key_value_heads": 32}
    defaults |= {"max_position_embeddings": 1 << 15, "sliding_window": 4096}
    fixed = {"use_mrope": False}
    biased: Sequence[str] = ("q", "k", "v")
    gguf = {"qwen2": Conventions()}

    def setup(self, c: Config) -> None:
        used, first = c.flag("use_sliding_window", False), c.integer("max_window_layers", 28, least=0)
        self.windows = windows(c, lambda layer: used and c.has("sliding_window") and layer >= first)
