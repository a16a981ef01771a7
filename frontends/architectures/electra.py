"""ELECTRA."""

from burnish.frontends.family import At, Encoder, Layers, Value, first_token


class Electra(Encoder):
    """BERT with narrower tables, and a head that tells which tokens were replaced (arXiv:2003.10555)."""

    names = ("Electra",)
    head_names = {"ForPreTraining": "ForReplacedTokens"}
    defaults = {**Encoder.defaults, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}
    inert = ("summary_activation", "summary_last_dropout", "summary_type", "summary_use_proj")  # of multiple choice
    spelling = {"bert": "electra", "embeddings.project": "embeddings_project", "cls.predictions": "generator_lm_head"}
    spelling |= {"cls.predictions.transform": "generator_predictions", "cls.predictions.decoder": "generator_lm_head"}
    spelling |= {"bert.pooler": "classifier", "classifier": "classifier.out_proj", "token_classifier": "classifier"}

    @property
    def narrow(self) -> int:
        return self.config.integer("embedding_size", 128)

    def embed(self, op: Layers, ids: Value, token_types: Value, at: At) -> Value:
        x = super().embed(op, ids, token_types, at)
        return x if self.narrow == self.width else op.linear("project", x, self.width, bias=True)

    def words_act(self, op: Layers, x: Value) -> Value:
        return op.gelu(x)

    def pooled(self, op: Layers, x: Value, count: Value) -> Value:
        return op.gelu(op.linear("bert.pooler.dense", first_token(op, x), self.width, bias=True))

    def score_tokens(self, op: Layers, x: Value, labels: int) -> Value:
        return op.linear("token_classifier", x, labels, bias=True)

    def replaced(self, op: Layers, x: Value) -> Value:
        """How sure it is of each token that it is not the writer's, [B, S]."""
        with op.scope("discriminator_predictions"):
            y = self.act(op, op.linear("dense", x, self.width, bias=True))
            return op.squeeze(op.linear("dense_prediction", y, 1, bias=True), axes=(2,))
