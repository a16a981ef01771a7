"""SmolLM 3."""

from burnish.frontends.family import At, Config, Decoder, Layers, Value, windows


class SmolLM3(Decoder):
    """Llama, every fourth layer without positions (arXiv:2501.18795); these may have a window."""

    names = ("SmolLM3",)
    defaults = {"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36}
    defaults |= {"num_attention_heads": 16, "num_key_value_heads": 4}
    defaults |= {"max_position_embeddings": 1 << 15, "rope_theta": 2e6}
    bias_fields = {"attention_bias": False, "mlp_bias": False}
    inert = ("max_window_layers",)
    ties = True

    def setup(self, c: Config) -> None:
        every = c.integer("no_rope_layer_interval", 4)
        self.rotated_layers = [float((i + 1) % every > 0) for i in range(self.layers)]
        if (given := c.get("no_rope_layers")) is not None:
            length = max(self.layers, len(given) if isinstance(given, list) else 0)  # of further layers too
            self.rotated_layers = c.numbers("no_rope_layers", length, most=1)
        self.frequencies(0)  # read, whether any layer is rotated or not
        near = c.flag("use_sliding_window", False) and c.has("sliding_window")
        self.windows = windows(c, lambda layer: near and not self.rotated_layers[layer])

    def rotate(self, op: Layers, x: Value, at: At) -> Value:
        return super().rotate(op, x, at) if self.rotated_layers[at.layer] else x
