"""DistilBERT."""

from __future__ import annotations

from burnish.frontends.architecture import Layers
from burnish.frontends.stored import Spelling
from burnish.frontends.templates.encoder import Encoder
from burnish.ir.graph import Value


class DistilBert(Encoder):
    """BERT without types of tokens, under other names (arXiv:1910.01108)."""

    names = ("DistilBert",)
    keys = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}
    keys |= {"intermediate_size": "hidden_dim", "hidden_act": "activation"}
    defaults = {"type_vocab_size": 0}
    inert = ("sinusoidal_pos_embds",)  # the table is stored like any other

    @property
    def spelling(self) -> Spelling:
        names = {"bert": "distilbert", "encoder.layer": "transformer.layer"}
        names |= {"attention.output.dense": "attention.out_lin"}
        names |= {f"attention.self.{n}": f"attention.{n[0]}_lin" for n in ("query", "key", "value")}
        names |= {"attention.output.LayerNorm": "sa_layer_norm", "output.LayerNorm": "output_layer_norm"}
        names |= {"intermediate.dense": "ffn.lin1", "output.dense": "ffn.lin2", "bert.pooler.dense": "pre_classifier"}
        words = {"transform.dense": "vocab_transform", "transform.LayerNorm": "vocab_layer_norm"}
        words |= {"decoder": "vocab_projector", "bias": "vocab_projector.bias"}
        return names | {f"cls.predictions.{k}": v for k, v in words.items()}

    def pooled(self, op: Layers, x: Value, count: Value) -> Value:
        return op.relu(op.linear("bert.pooler.dense", self.first(op, x), self.width, bias=True))
