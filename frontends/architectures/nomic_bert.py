"""Nomic BERT, and its relatives GTE and Jina embeddings 3."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from burnish.frontends.architectures.roberta import Roberta
from burnish.frontends.family import ATTENTION, MLP, At, Config, Encoder, Layers, Spelling, Value, joined
from burnish.frontends.rotary import Rotation, rope_frequencies

#: the parts of a block as transformers has them in memory
_BLOCK = {f"attention.self.{name}": f"self_attn.{name[0]}_proj" for name in ("query", "key", "value")}
_BLOCK |= {"encoder.layer": "layers", "attention.output.dense": "self_attn.o_proj"}
_BLOCK |= {"attention.output.LayerNorm": "post_attention_layernorm", "output.LayerNorm": "post_mlp_layernorm"}
_BLOCK |= {"mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj"}
#: and as the files of Nomic and Jina have them
_STORED = {"encoder.layer": "encoder.layers", "embeddings.LayerNorm": "emb_ln", "output.LayerNorm": "norm2"}
_STORED |= {"attention.output.LayerNorm": "norm1"}


class NomicBert(Encoder):
    """BERT with rotary positions and a gated MLP, without biases (arXiv:2402.01613)."""

    names: ClassVar[tuple[str, ...]] = ("NomicBert",)
    keys = {"hidden_size": "n_embd", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"}
    keys |= {"intermediate_size": "n_inner", "max_position_embeddings": "n_positions"}
    keys |= {"layer_norm_eps": "layer_norm_epsilon", "rope_theta": "rotary_emb_base"}
    fixed: ClassVar[Mapping[str, Any]] = {  # of the code that it came with
        **dict.fromkeys(("causal", "parallel_block", "parallel_block_tied_norm", "prenorm", "use_rms_norm"), False),
        **dict.fromkeys(("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias", "rotary_emb_interleaved"), False),
        **{"scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True, "rotary_emb_fraction": 1.0},
        **{"activation_function": "swiglu"},
    }
    inert: ClassVar[tuple[str, ...]] = tuple(
        """dense_seq_output fused_bias_fc fused_dropout_add_ln matryoshka_dimensions max_trained_positions
        pad_vocab_size_multiple reorder_and_upcast_attn summary_activation summary_first_dropout
        summary_proj_to_labels summary_type summary_use_proj use_flash_attn use_xentropy""".split()
    )
    defaults = {**Encoder.defaults, "vocab_size": 30528}
    activation = ("hidden_act", "silu")
    biased: Sequence[str] = ()
    paths = {**Encoder.paths, "gate": "mlp.gate", "up": "mlp.up", "down": "mlp.down"}
    #: the base of the rotation, where the config does not say
    theta = 1000.0
    #: what the heads are called, and the parts of a block, those of q, k and v together
    called: Spelling = {
        "bert": "nomic_bert",
        "cls.predictions.transform.LayerNorm": "cls.predictions.transform.layer_norm",
    }
    stored = {**_STORED, "attention.output.dense": "attn.out_proj", "mlp.down": "mlp.fc2"}
    stored |= {"mlp.up": "mlp.fc11", "mlp.gate": "mlp.fc12"}
    qkv_called = "attn.Wqkv"
    in_memory = {**_BLOCK, **called}
    mlp = Encoder.gated_mlp

    def setup(self, c: Config) -> None:
        self.frequencies = self.rotation(c)
        qkv = joined(self.qkv_called, self.outputs("q", "k", "v", under="attention"))
        self.spelling = {**self.called, **self.stored, **qkv}

    def rotation(self, c: Config) -> Rotation:
        """How heads are rotated."""
        return rope_frequencies(c, self.head_dim, theta=("rope_theta", self.theta))

    def place(self, op: Layers, at: At) -> Value | None:
        return None

    def rotate(self, op: Layers, x: Value, at: At) -> Value:
        return op.rotary(x, at.positions, self.frequencies)


class Gte(NomicBert):
    """The same with biases, but of gate and up (arXiv:2407.19669)."""

    names: ClassVar[tuple[str, ...]] = ("Gte",)
    keys = {}
    fixed = {"layer_norm_type": "layer_norm", "logn_attention_scale": False, "logn_attention_clip1": False}
    fixed |= {"pack_qkv": True, "position_embedding_type": "rope"}
    inert = ("unpad_inputs", "use_memory_efficient_attention")
    defaults = {**Encoder.defaults, "vocab_size": 250048, "type_vocab_size": 1, "max_position_embeddings": 8192}
    activation = Encoder.activation
    biased = (*ATTENTION, "down")
    theta = 160000.0
    called = {"bert": "gte", "cls.predictions": "lm_head", "cls.predictions.transform": "lm_head"}
    stored = {"attention.output.dense": "attention.o_proj", "attention.output.LayerNorm": "attn_ln"}
    stored |= {"output.LayerNorm": "mlp_ln", "mlp.down": "mlp.down_proj"}
    stored |= {"cls.predictions.transform.LayerNorm": "lm_head.norm"}
    qkv_called = "attention.qkv_proj"
    in_memory = {**_BLOCK, **called, "cls.predictions.transform.LayerNorm": "lm_head.layer_norm"}
    words_act = Roberta.words_act

    def setup(self, c: Config) -> None:
        super().setup(c)
        self.spelling = {**self.spelling, **joined("mlp.up_gate_proj", self.outputs("up", "gate"))}

    def rotation(self, c: Config) -> Rotation:
        """Of type ntk, the base grows by the factor, and the frequencies fall by its root (kexue.fm/archives/9706)."""
        scaling = c.section("rope_scaling")
        if scaling.get("type") != "ntk":
            return super().rotation(c)
        factor, base = scaling.number("factor", least=1.0), c.number("rope_theta", self.theta)
        slower = {"type": "linear", "factor": factor ** (2 / self.head_dim)}
        return rope_frequencies(Config({"rope_theta": base * factor, "rope_scaling": slower}, c.where), self.head_dim)


class New(Gte):
    """GTE as the files call it that come with code of their own."""

    names = ("New",)
    theta = 10000.0
    called = {**Gte.called, "bert": "new"}


class JinaEmbeddingsV3(NomicBert):
    """XLM-RoBERTa with rotary positions, without the adapters of tasks (arXiv:2409.10173)."""

    names = ("JinaEmbeddingsV3",)
    keys = {}
    fixed = {}
    defaults = {"vocab_size": 250002, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    defaults |= {"intermediate_size": 4096, "type_vocab_size": 1, "max_position_embeddings": 8194}
    eps, activation = ("layer_norm_eps", 1e-5), Encoder.activation
    biased = (*ATTENTION, *MLP)
    theta = 20000.0
    called = Roberta.spelling
    stored = {**_STORED, "attention.output.dense": "mixer.out_proj", "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"}
    qkv_called = "mixer.Wqkv"
    in_memory = {**_BLOCK, **Roberta.spelling, "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"}
    mlp, words_act, score_tokens = Encoder.plain_mlp, Roberta.words_act, Roberta.score_tokens
