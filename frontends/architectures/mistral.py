"""Mistral and Ministral."""

from burnish.frontends.family import At, Config, Decoder, Layers, Value, original_context, rope_section, windows


class Mistral(Decoder):
    """Llama, each token seeing the last `sliding_window` alone, itself included (arXiv:2310.06825)."""

    names = ("Mistral",)
    defaults = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
    defaults |= {"num_attention_heads": 32, "num_key_value_heads": 8}
    defaults |= {"sliding_window": 4096, "max_position_embeddings": 1 << 17}

    def setup(self, c: Config) -> None:
        self.windows = [c.integer("sliding_window") if c.has("sliding_window") else 0] * self.layers


class Ministral(Mistral):
    """Mistral, some of its layers without a window."""

    names = ("Ministral",)

    def setup(self, c: Config) -> None:
        self.windows = windows(c, lambda layer: c.has("sliding_window"))


class Ministral3(Mistral):
    """Mistral, whose queries grow with each further context of training that they stand behind (arXiv:2601.08584)."""

    names = ("Ministral3",)
    defaults = {"vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 34}
    defaults |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    defaults |= {"max_position_embeddings": 1 << 18}
    defaults["rope_parameters"] = {
        **{"rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 1 << 14},
        **{"beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1},
    }
    eps = ("rms_norm_eps", 1e-5)
    inert = ("max_position_embeddings",)  # beside the rotation

    def setup(self, c: Config) -> None:
        super().setup(c)
        self.growth, self.context = rope_section(c).number("llama_4_scaling_beta"), original_context(c)

    def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At) -> Value:
        begun = at.positions - op.mod(at.positions, self.context)
        behind = op.cast(begun, to="f32") * (1 / self.context)
        q = q * op.unsqueeze(op.log(behind + 1.0) * self.growth + 1.0, axes=(2, 3))
        return super().attend(op, q, k, v, at)
