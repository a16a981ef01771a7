"""ALBERT."""

from burnish.frontends.family import At, Config, Encoder, Layers, LoadError, Value


class Albert(Encoder):
    """BERT with narrower tables, and blocks that share the weights of their group (arXiv:1909.11942)."""

    names = ("Albert",)
    defaults = {"vocab_size": 30000, "hidden_size": 4096, "num_hidden_layers": 12, "num_attention_heads": 64}
    defaults |= {"intermediate_size": 16384}
    activation = ("hidden_act", "gelu_new")
    paths = {n: f"attention.{name}" for n, name in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "dense"))}
    paths |= {"up": "ffn", "down": "ffn_output"}
    inert = ("down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks")  # of the first implementation
    unused = ("sop_classifier.",)

    def setup(self, c: Config) -> None:
        super().setup(c)
        groups, inner = c.integer("num_hidden_groups", 1), c.integer("inner_group_num", 1, most=1024 // self.layers)
        if groups > self.layers:
            raise LoadError(f"{c.where}: num_hidden_groups {groups} is more than num_hidden_layers {self.layers}")
        names = {"bert": "albert", "bert.pooler.dense": "albert.pooler"}
        names |= {"embeddings.project": "encoder.embedding_hidden_mapping_in"}
        names |= {"cls.predictions": "predictions", "cls.predictions.transform": "predictions"}
        for i in range(self.layers * inner):
            group = int(i // inner / (self.layers / groups))
            shared = f"encoder.albert_layer_groups.{group}.albert_layers.{i % inner}"
            names[f"encoder.layer.{i}"] = shared
        self.layers *= inner
        self.spelling = names

    @property
    def narrow(self) -> int:
        return self.config.integer("embedding_size", 128)

    def embed(self, op: Layers, ids: Value, token_types: Value, at: At) -> Value:
        return op.linear("project", super().embed(op, ids, token_types, at), self.width, bias=True)

    def block(self, op: Layers, x: Value, at: At) -> Value:
        x = self.norm(op, "attention.LayerNorm", self.attention(op, x, at) + x)
        return self.norm(op, "full_layer_layer_norm", self.mlp(op, x) + x)
