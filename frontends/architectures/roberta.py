"""RoBERTa."""

from typing import Any, ClassVar

from burnish.frontends.family import At, Config, Encoder, Layers, Value


class Roberta(Encoder):
    """BERT under other names; its positions are counted from behind that of padding (arXiv:1907.11692, 1911.02116)."""

    names: ClassVar[tuple[str, ...]] = ("Roberta",)
    defaults = {**Encoder.defaults, "vocab_size": 50265}
    spelling = {"bert": "roberta", "cls.predictions": "lm_head"}
    spelling |= {"cls.predictions.transform.dense": "lm_head.dense"}
    spelling |= {"cls.predictions.transform.LayerNorm": "lm_head.layer_norm"}
    spelling |= {"bert.pooler": "classifier", "classifier": "classifier.out_proj", "token_classifier": "classifier"}

    def setup(self, c: Config) -> None:
        super().setup(c)
        self.before, self.rows = c.integer("pad_token_id", 1, least=0) + 1, c.integer("max_position_embeddings", 512)

    def facts(self) -> dict[str, Any]:
        return {"context": max(0, self.rows - self.before)}

    def place(self, op: Layers, at: At) -> Value:
        return op.placed("position_embeddings", at.positions, self.rows, self.width, self.before)

    def words_act(self, op: Layers, x: Value) -> Value:
        return op.gelu(x)

    def score_tokens(self, op: Layers, x: Value, labels: int) -> Value:
        return op.linear("token_classifier", x, labels, bias=True)


class XLMRoberta(Roberta):
    """The same of many languages, and of French."""

    names = ("XLMRoberta", "Camembert")
    defaults = Encoder.defaults


class Data2VecText(Roberta):
    """The same, trained otherwise (arXiv:2202.03555)."""

    names = ("Data2VecText",)
    defaults = Encoder.defaults
    spelling = {**Roberta.spelling, "bert": "data2vec_text"}
