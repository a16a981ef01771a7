"""StableLM."""

from burnish.frontends.family import At, Config, Decoder, Layers, Value


class StableLm(Decoder):
    """Llama with layer norms, a quarter of each head rotated; in some, both parts side by side (arXiv:2402.17834)."""

    names = ("StableLm",)
    defaults = {"vocab_size": 50304, "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096}
    eps = ("layer_norm_eps", 1e-5)
    inert, fixed = ("norm_eps", "rope_pct"), {"rotary_scaling_factor": 1.0}  # of the first implementation
    rotated = 0.25
    norm = Decoder.layer_norm

    def setup(self, c: Config) -> None:
        self.biased = ("q", "k", "v") if c.flag("use_qkv_bias", False) else ()
        self.normed_heads, self.parallel = c.flag("qk_layernorm", False), c.flag("use_parallel_residual", False)

    def block(self, op: Layers, x: Value, at: At) -> Value:
        return self.parallel_block(op, x, at) if self.parallel else super().block(op, x, at)

    def each_head(self, op: Layers, name: str, x: Value) -> Value:
        if not self.normed_heads:
            return x
        heads = self.heads if name == "q" else self.groups
        weights = [op.parameter(f"{name}_layernorm.norms.{i}.weight", self.head_dim) for i in range(heads)]
        return self.standardized(op, x) * op.cast(op.stack(*weights), to="f32")
