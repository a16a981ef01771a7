"""GPT-2."""

from __future__ import annotations

from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config, LoadError
from burnish.frontends.stored import joined, transposed
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import ATTENTION, MLP, At
from burnish.ir.graph import Value


class GPT2(Decoder):
    """Learned positions, layer norms, an MLP without a gate; weights are stored transposed, q, k and v as one."""

    names = ("GPT2",)
    keys = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
    keys |= {"max_position_embeddings": "n_positions", "intermediate_size": "n_inner"}
    defaults = {"max_position_embeddings": 1024}
    eps = ("layer_norm_epsilon", 1e-5)
    activation = ("activation_function", "gelu_new")
    biased = ATTENTION + MLP
    ties = True
    inert = (
        *("n_ctx", "n_special", "predict_special_tokens", "reorder_and_upcast_attn", "summary_activation"),
        *("summary_first_dropout", "summary_type", "summary_proj_to_labels", "summary_use_proj"),
    )
    unused = (".attn.bias",)
    norm = Decoder.layer_norm
    mlp = Decoder.plain_mlp

    def setup(self, c: Config) -> None:
        if not c.flag("scale_attn_weights", True) or c.flag("scale_attn_by_inverse_layer_idx", False):
            raise LoadError(f"{c.where}: supported is scale_attn_weights, and no scale_attn_by_inverse_layer_idx")
        qkv = joined("attn.c_attn", self.outputs("q", "k", "v", under="self_attn"), transposed=True)
        names = {"model": "transformer", "layers": "h", "embed_tokens": "wte", "embed_positions": "wpe", "norm": "ln_f"}
        names |= {"input_layernorm": "ln_1", "post_attention_layernorm": "ln_2"}
        inner = {"self_attn.o_proj": transposed("attn.c_proj"), "mlp.up_proj": transposed("mlp.c_fc")}
        self.spelling = {**names, **qkv, **inner, "mlp.down_proj": transposed("mlp.c_proj")}

    @property
    def intermediate(self) -> int:
        return self.config.integer("intermediate_size", 4 * self.width)

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        rows = self.config.integer("max_position_embeddings")
        return super().embed(op, ids, at) + op.placed("embed_positions", at.positions, rows, self.width)

    def rotate(self, op: Layers, x: Value, at: At) -> Value:
        return x

    def score_tokens(self, op: Layers, x: Value, labels: int) -> Value:
        return op.linear("classifier", x, labels, bias=True)
