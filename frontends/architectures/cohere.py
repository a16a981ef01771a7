"""Cohere's Command R and what follows it."""

from burnish.frontends.family import At, Config, Decoder, Layers, Value, windows


class Cohere(Decoder):
    """Attention and MLP side by side on one norm without a bias, interleaved pairs, scaled logits (Command R)."""

    names = ("Cohere",)
    defaults = {"vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528, "num_hidden_layers": 40}
    defaults |= {"num_attention_heads": 64, "max_position_embeddings": 8192, "rope_theta": 500000.0}
    eps = ("layer_norm_eps", 1e-5)
    bias_fields = {"attention_bias": False}
    ties = interleaved = True
    norm, norm_bias = Decoder.layer_norm, False
    block = Decoder.parallel_block

    def setup(self, c: Config) -> None:
        self.normed_heads = c.flag("use_qk_norm", False)
        self.logit_scale = c.number("logit_scale", 0.0625)

    def each_head(self, op: Layers, name: str, x: Value) -> Value:
        if not self.normed_heads:
            return x
        weight = op.parameter(f"{name}_norm.weight", *x.shape[2:])  # each head has its own
        return self.standardized(op, x) * op.cast(weight, to="f32")

    def logits(self, op: Layers, x: Value) -> Value:
        return super().logits(op, x) * self.logit_scale


class Cohere2(Cohere):
    """Every fourth layer sees all tokens and none of their positions, the others those of a window (Command R7B)."""

    names = ("Cohere2",)
    defaults = {**Cohere.defaults, "rope_theta": 10000.0, "sliding_window": 4096}
    inert = ("cache_implementation", "layer_switch")
    fixed = {"order_of_interleaved_layers": "local_attn_first", "position_embedding_type": "rope_gptj"}
    fixed |= {"use_embedding_sharing": True, "use_gated_activation": True, "use_parallel_block": True}
    fixed |= {"rotary_pct": 1.0, "use_parallel_embedding": True}

    def setup(self, c: Config) -> None:
        self.normed_heads, self.logit_scale = False, c.number("logit_scale", 0.0625)
        every = c.integer("sliding_window_pattern", 4)
        self.windows = windows(c, lambda layer: (layer + 1) % every > 0)
        self.frequencies(0)  # read, whether any layer is rotated or not

    def rotate(self, op: Layers, x: Value, at: At) -> Value:
        return super().rotate(op, x, at) if self.windows[at.layer] else x
