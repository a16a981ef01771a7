"""BERT."""

from burnish.frontends.family import At, Config, Encoder, Layers, Value


class Bert(Encoder):
    """Learned positions, types of tokens, a norm after every sum (arXiv:1810.04805)."""

    names = ("Bert",)
    inert = (  # of the implementation that came first
        *("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"),
        *("pooler_size_per_head", "pooler_type"),
    )


class Ernie(Encoder):
    """The same with a type of the task, where there is one: the first (arXiv:1904.09223, 2107.02137)."""

    names = ("Ernie",)
    spelling = {"bert": "ernie"}

    def setup(self, c: Config) -> None:
        super().setup(c)
        tasks = c.integer("task_type_vocab_size", 3)
        self.tasks = tasks if c.flag("use_task_id", False) else 0

    def place(self, op: Layers, at: At) -> Value | None:
        x = super().place(op, at)
        if not self.tasks or x is None:
            return x
        first = op.index(op.parameter("task_type_embeddings.weight", self.tasks, self.width), index=0)
        return x + op.cast(first, to="f32")
