"""ModernBERT."""

from burnish.frontends.family import ACTIVATIONS, At, Config, Encoder, Layers, Pooling, Value, joined, rope_frequencies
from burnish.frontends.templates.transformer import FULL, SLIDING, windows


class ModernBert(Encoder):
    """Norms before each part, rotary positions, a gated MLP, most layers within a window (arXiv:2412.13663)."""

    names = ("ModernBert",)
    keys = {"hidden_act": "hidden_activation", "sliding_window": "local_attention"}
    defaults = {**Encoder.defaults, "vocab_size": 50368, "num_hidden_layers": 22, "intermediate_size": 1152}
    defaults |= {"max_position_embeddings": 8192, "sliding_window": 128}
    eps = ("norm_eps", 1e-5)
    inert = tuple(
        """deterministic_flash_attn layer_norm_eps position_embedding_type reference_compile repad_logits_with_grad
        sparse_pred_ignore_index sparse_prediction""".split()
    )
    biased, bias_fields = (), {"attention_bias": False, "mlp_bias": False}
    spelling = {"bert": "model", "encoder.layer": "layers", "word_embeddings": "tok_embeddings"}
    spelling |= {"cls.predictions": "decoder", "cls.predictions.decoder": "decoder", "qa_outputs": "classifier"}
    paths = {n: f"attn.{n}" for n in "qkv"} | {"o": "attn.Wo", "gate": "mlp.gate", "up": "mlp.up", "down": "mlp.Wo"}

    def setup(self, c: Config) -> None:
        self.norm_bias, self.head_bias = c.flag("norm_bias", False), c.flag("classifier_bias", False)
        self.word_bias, self.pool = c.flag("decoder_bias", True), c.choice("classifier_pooling", ("cls", "mean"), "cls")
        self.head_act = ACTIVATIONS[c.choice("classifier_activation", ACTIVATIONS, "gelu")]
        every = c.integer("global_attn_every_n_layers", 3)
        self.windows = [n and n // 2 + 1 for n in windows(c, lambda i: i % every > 0)]  # half on each side
        self.near = rope_frequencies(c, self.head_dim, of=SLIDING, theta=("local_rope_theta", 10000.0))
        self.far = rope_frequencies(c, self.head_dim, of=FULL, theta=("global_rope_theta", 160000.0))
        rows = joined("attn.Wqkv", self.outputs("q", "k", "v")) | joined("mlp.Wi", self.outputs("gate", "up"))
        self.spelling = {**type(self).spelling, **rows}

    def embed(self, op: Layers, ids: Value, token_types: Value, at: At) -> Value:
        return self.norm(op, "norm", op.embedding("word_embeddings", ids, self.vocabulary, self.width))

    def rotate(self, op: Layers, x: Value, at: At) -> Value:
        return op.rotary(x, at.positions, self.near if self.windows[at.layer] else self.far)

    def block(self, op: Layers, x: Value, at: At) -> Value:
        x = self.residual(op, x, lambda y: self.attention(op, y, at), before="attn_norm" if at.layer else "")
        return self.residual(op, x, lambda y: self.gated_mlp(op, y), before="mlp_norm")

    def final(self, op: Layers, x: Value) -> Value:
        return self.norm(op, "final_norm", x)

    def predicted(self, op: Layers, x: Value) -> Value:
        return self.norm(op, "head.norm", self.head_act(op, op.linear("head.dense", x, self.width, self.head_bias)))

    def words(self, op: Layers, x: Value) -> Value:
        return op.linear("cls.predictions.decoder", self.predicted(op, x), self.vocabulary, self.word_bias)

    def pooled(self, op: Layers, x: Value, count: Value) -> Value:
        return self.predicted(op, Pooling((self.pool,)).build(op, x, count))
