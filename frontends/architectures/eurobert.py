"""EuroBERT."""

from burnish.frontends.family import Config, Decoder, Layers, Pooling, Value, first_token


class EuroBert(Decoder):
    """Llama whose tokens see all others (arXiv:2503.05500)."""

    names = ("EuroBert",)
    head = "Model"
    keys = {"classifier_pooling": "clf_pooling"}
    inert = ("bos_token", "eos_token", "mask_token", "pad_token")
    defaults = {"vocab_size": 128256, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
    defaults |= {"num_attention_heads": 12, "max_position_embeddings": 8192}
    eps = ("rms_norm_eps", 1e-5)
    bias_fields = {"attention_bias": False, "mlp_bias": False}
    causal = False

    def setup(self, c: Config) -> None:
        self.pool = c.choice("classifier_pooling", ("bos", "mean", "late"), "late")

    def words(self, op: Layers, x: Value) -> Value:
        return op.linear("lm_head", x, self.vocabulary, self.config.flag("mlp_bias", False))

    def pooled(self, op: Layers, x: Value, count: Value) -> Value:
        """Late, it is the scores of tokens that are averaged, which is to average what they are made of."""
        if self.pool == "bos":
            x = first_token(op, x)
        elif self.pool == "mean":
            x = Pooling(("mean",)).build(op, x, count)
        x = op.gelu(op.linear("dense", x, self.width, bias=True))
        return Pooling(("mean",)).build(op, x, count) if self.pool == "late" else x

    def score(self, op: Layers, x: Value, labels: int) -> Value:
        return op.linear("classifier", x, labels, bias=True)

    score_tokens = score
