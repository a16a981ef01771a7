"""DistilBERT."""

from burnish.frontends.family import Encoder, Layers, Value, first_token


class DistilBert(Encoder):
    """BERT without types of tokens, under other names (arXiv:1910.01108)."""

    names = ("DistilBert",)
    keys = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}
    keys |= {"intermediate_size": "hidden_dim", "hidden_act": "activation"}
    defaults = {**Encoder.defaults, "num_hidden_layers": 6, "type_vocab_size": 0}
    spelling = {"bert": "distilbert", "encoder.layer": "transformer.layer"}
    spelling |= {f"attention.self.{n}": f"attention.{n[0]}_lin" for n in ("query", "key", "value")}
    spelling |= {"attention.output.dense": "attention.out_lin", "attention.output.LayerNorm": "sa_layer_norm"}
    spelling |= {"intermediate.dense": "ffn.lin1", "output.dense": "ffn.lin2", "output.LayerNorm": "output_layer_norm"}
    spelling |= {"cls.predictions.transform.dense": "vocab_transform", "bert.pooler.dense": "pre_classifier"}
    spelling |= {"cls.predictions.transform.LayerNorm": "vocab_layer_norm"}
    spelling |= {"cls.predictions.decoder": "vocab_projector", "cls.predictions.bias": "vocab_projector.bias"}
    inert = ("sinusoidal_pos_embds", "tie_weights_")  # the table is stored like any other; of training

    def pooled(self, op: Layers, x: Value, count: Value) -> Value:
        return op.relu(op.linear("bert.pooler.dense", first_token(op, x), self.width, bias=True))
