"""T5 and mT5."""

from collections.abc import Sequence

from burnish.frontends.family import ACTIVATIONS, At, Config, EncoderDecoder, Layers, Step, Value


class T5(EncoderDecoder):
    """RMS norm, a bias by distance in place of positions, no 1/sqrt(d) (arXiv:1910.10683).

    v1.0 has an MLP with ReLU and a tied head on scaled states; v1.1 a gated MLP and a head of its own.
    """

    names = ("T5",)
    keys = {"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}
    keys |= {"head_dim": "d_kv", "intermediate_size": "d_ff"}
    defaults = {"vocab_size": 32128, "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8}
    defaults |= {"head_dim": 64, "intermediate_size": 2048}
    decoder_keys = {"num_hidden_layers": ("num_decoder_layers", "num_layers")}
    eps = ("layer_norm_epsilon", 1e-6)
    biased = ()
    blocks = "block"
    paths = {n: n for n in "qkvo"} | {"gate": "wi_0", "up": "wi_1", "down": "wo"}
    inert = ("n_positions", "scalable_attention")  # there is no limit; of training
    unused = ("EncDecAttention.relative_attention_bias.",)
    norm = EncoderDecoder.rms_norm
    #: where the config does not say what the MLP is
    mlp_kind: str = "relu"

    def setup(self, c: Config) -> None:
        kinds = [*ACTIVATIONS, *(f"gated-{name}" for name in ACTIVATIONS)]
        kind = c.choice("feed_forward_proj", kinds, self.mlp_kind)
        name = "gelu_new" if kind == "gated-gelu" else kind.removeprefix("gated-")
        self.act = ACTIVATIONS[c.choice("dense_act_fn", ACTIVATIONS, name)]  # what is said in parts goes before
        self.scale, self.gated = 1.0, c.flag("is_gated_act", kind.startswith("gated-"))
        self.spelling = {} if self.gated else {"DenseReluDense.wi_1": "DenseReluDense.wi"}
        self.scaled = c.flag("scale_decoder_outputs", c.flag("tie_word_embeddings", True))

    def tied(self) -> Sequence[Sequence[str]]:
        return [[f"{n}.weight" for n in ("shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head")]]

    def bias(self, op: Layers, x: Value, at: At) -> Value | None:
        name = "block.0.layer.0.SelfAttention.relative_attention_bias"
        return self.relative_bias(op, name, x.shape[1], bidirectional=not at.causal)

    def part(self, op: Layers, x: Value, at: At, name: str, step: Step) -> Value:
        paths = {"self_attn": "layer.0.SelfAttention", "encoder_attn": "layer.1.EncDecAttention"}
        path = paths.get(name, f"layer.{1 if at.encoded is None else 2}.DenseReluDense")
        y = self.norm(op, f"{path.rpartition('.')[0]}.layer_norm", x)
        with op.scope(path):
            return x + step(y)

    def mlp(self, op: Layers, x: Value) -> Value:
        return self.gated_mlp(op, x) if self.gated else self.plain_mlp(op, x)

    def final(self, op: Layers, x: Value) -> Value:
        return self.norm(op, "final_layer_norm", x)

    def logits(self, op: Layers, x: Value) -> Value:
        return super().logits(op, x * self.width**-0.5 if self.scaled else x)


class MT5(T5):
    """T5 v1.1 of many languages; its head never scales (arXiv:2010.11934)."""

    names = ("MT5",)
    defaults = T5.defaults | {"vocab_size": 250112, "num_hidden_layers": 8, "num_attention_heads": 6}
    defaults |= {"intermediate_size": 1024}
    mlp_kind = "gated-gelu"

    def setup(self, c: Config) -> None:
        super().setup(c)
        self.scaled = False
