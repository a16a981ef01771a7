"""GPT-2 and its relatives with learned positions: GPT-BigCode (StarCoder) and GPT-Neo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config, LoadError, shown
from burnish.frontends.stored import RowMap, interleaved, joined
from burnish.frontends.templates.decoder import Decoder
from burnish.frontends.templates.transformer import ATTENTION, MLP, At
from burnish.ir.graph import Value


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
    unused: ClassVar[tuple[str, ...]] = (".attn.bias",)
    #: whether matrices are stored [inputs, outputs]
    transposed: ClassVar[bool] = True
    #: whether scores are divided by the number of the block, counted from 1
    by_depth: bool = False
    norm = Decoder.layer_norm
    mlp = Decoder.plain_mlp

    def setup(self, c: Config) -> None:
        self.scale = self.scale if c.flag("scale_attn_weights", True) else 1.0
        self.by_depth = c.flag("scale_attn_by_inverse_layer_idx", False)
        names = {"model": "transformer", "layers": "h", "embed_tokens": "wte", "embed_positions": "wpe", "norm": "ln_f"}
        names |= {"input_layernorm": "ln_1", "post_attention_layernorm": "ln_2"}
        one = {"self_attn.o_proj": "attn.c_proj", "mlp.up_proj": "mlp.c_fc", "mlp.down_proj": "mlp.c_proj"}
        qkv = joined("attn.c_attn", self.outputs("q", "k", "v", under="self_attn"), self.transposed)
        self.spelling = {**names, **qkv, **{k: RowMap(v, transposed=self.transposed) for k, v in one.items()}}

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


class GPTBigCode(GPT2):
    """GPT-2 whose heads may share keys and values, with matrices as they are elsewhere (arXiv:2301.03988)."""

    names = ("GPTBigCode",)
    activation = ("activation_function", "gelu_pytorch_tanh")
    #: by which of its own forms the other implementation computes
    inert = tuple(
        """attention_softmax_in_fp32 inference_runner max_batch_size pad_key_length pre_allocate_kv_cache
        scale_attention_softmax_in_fp32 validate_runner_input""".split()
    )
    transposed = False

    def setup(self, c: Config) -> None:
        shared = c.flag("multi_query", True)
        self.groups = 1 if shared else self.heads
        super().setup(c)
        self.by_depth = False
        if not shared:
            qkv = interleaved("attn.c_attn", self.outputs("q", "k", "v", under="self_attn"), self.heads)
            self.spelling = {**self.spelling, **qkv}


class GPTNeo(GPT2):
    """GPT-2 with scores as they are, every other layer within a window (EleutherAI, 2021)."""

    names = ("GPTNeo",)
    keys = {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"}
    defaults = {"vocab_size": 50257, "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16}
    defaults |= {"max_position_embeddings": 2048, "attention_types": [[["global", "local"], 12]]}
    biased = ("o", *MLP)
    inert = ("embed_dropout", "resid_dropout")
    unused = (".attention.bias",)

    def setup(self, c: Config) -> None:
        self.scale = 1.0
        said, window = c.get("attention_types"), c.integer("window_size", 256)
        try:
            pattern = [kind for kinds, times in said for kind in min(times, self.layers) * list(kinds)]
        except (TypeError, ValueError):
            pattern = []
        if len(pattern) != self.layers:
            raise LoadError(f"{c.where}: attention_types {shown(said)} does not give {self.layers} layers their type")
        kinds = c.choices("attention_layers", ("global", "local"), pattern)
        self.windows = [window if kind == "local" else 0 for kind in kinds]
        names = {"model": "transformer", "layers": "h", "embed_tokens": "wte", "embed_positions": "wpe", "norm": "ln_f"}
        names |= {"input_layernorm": "ln_1", "post_attention_layernorm": "ln_2", "self_attn": "attn.attention"}
        self.spelling = names | {"o_proj": "out_proj", "up_proj": "c_fc", "down_proj": "c_proj"}
