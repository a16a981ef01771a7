"""GPT-2."""

from collections.abc import Sequence
from typing import ClassVar

from burnish.frontends.family import ATTENTION, MLP, At, Config, Decoder, Layers, RowMap, Value, joined


class GPT2(Decoder):
    """Learned positions, layer norms, an MLP without a gate; weights are stored transposed, q, k and v as one."""

    names = ("GPT2",)
    keys = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
    keys |= {"max_position_embeddings": "n_positions", "intermediate_size": "n_inner"}
    defaults = {"vocab_size": 50257, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    defaults |= {"max_position_embeddings": 1024}
    eps = ("layer_norm_epsilon", 1e-5)
    activation = ("activation_function", "gelu_new")
    biased: Sequence[str] = ATTENTION + MLP
    ties = True
    inert: ClassVar[tuple[str, ...]] = (
        *("n_ctx", "n_special", "predict_special_tokens", "reorder_and_upcast_attn", "summary_activation"),
        *("summary_first_dropout", "summary_type", "summary_proj_to_labels", "summary_use_proj"),
    )
    unused = (".attn.bias",)
    spelling: dict[str, str | RowMap] = {"model": "transformer", "layers": "h", "embed_tokens": "wte", "norm": "ln_f"}
    spelling |= {"embed_positions": "wpe", "input_layernorm": "ln_1", "post_attention_layernorm": "ln_2"}
    #: whether matrices are stored [inputs, outputs]
    transposed: ClassVar[bool] = True
    #: whether scores are divided by the number of the block, counted from 1
    by_depth: bool = False
    norm = Decoder.layer_norm
    mlp = Decoder.plain_mlp

    def setup(self, c: Config) -> None:
        self.scale = self.scale if c.flag("scale_attn_weights", True) else 1.0
        self.by_depth = c.flag("scale_attn_by_inverse_layer_idx", False)
        one = {"self_attn.o_proj": "attn.c_proj", "mlp.up_proj": "mlp.c_fc", "mlp.down_proj": "mlp.c_proj"}
        qkv = joined("attn.c_attn", self.outputs("q", "k", "v", under="self_attn"), self.transposed)
        self.spelling = {**self.spelling, **qkv, **{k: RowMap(v, transposed=self.transposed) for k, v in one.items()}}

    @property
    def intermediate(self) -> int:
        return self.config.integer("intermediate_size", 4 * self.width)

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        rows = self.config.integer("max_position_embeddings")
        return super().embed(op, ids, at) + op.placed("embed_positions", at.positions, rows, self.width)

    def rotate(self, op: Layers, x: Value, at: At) -> Value:
        return x

    def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At) -> Value:
        return super().attend(op, op.div(q, float(at.layer + 1)) if self.by_depth else q, k, v, at)

    def score_tokens(self, op: Layers, x: Value, labels: int) -> Value:
        return op.linear("classifier", x, labels, bias=True)
