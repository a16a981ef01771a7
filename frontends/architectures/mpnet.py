"""MPNet."""

from burnish.frontends.architectures.roberta import Roberta
from burnish.frontends.family import ATTENTION, At, Config, Layers, LoadError, Value


class MPNet(Roberta):
    """RoBERTa with T5's bias by distance, one table for all blocks (arXiv:2004.09297)."""

    names = ("MPNet",)
    defaults = {**Roberta.defaults, "vocab_size": 30527, "type_vocab_size": 0}
    paths = {**Roberta.paths, **{n: f"attn.{n}" for n in ATTENTION}}
    spelling = {**Roberta.spelling, "bert": "mpnet", "attention.output.LayerNorm": "attention.LayerNorm"}

    def setup(self, c: Config) -> None:
        super().setup(c)
        self.before = 2  # whatever the token of padding
        if c.integer("relative_attention_num_buckets", 32) != 32:
            raise LoadError(f"{c.where}: relative_attention_num_buckets must be 32")

    def bias(self, op: Layers, x: Value, at: At) -> Value:
        how = {"query": x.shape[1], "key": x.shape[1], "bidirectional": True}
        return op.relative_bias("encoder.relative_attention_bias", 32, self.heads, **how)
