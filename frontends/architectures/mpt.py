"""MPT."""

from collections.abc import Sequence

from burnish.frontends.architectures.bloom import Bloom
from burnish.frontends.family import Config, Decoder, Layers, Value, joined


class Mpt(Decoder):
    """ALiBi in the place of positions, no biases, q, k and v as one, which may be clipped (MosaicML, 2023)."""

    names = ("Mpt",)
    keys = {"hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
    keys |= {"max_position_embeddings": "max_seq_len"}
    defaults = {"vocab_size": 50368, "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16}
    eps, norm_bias, ties = ("layer_norm_epsilon", 1e-5), False, True
    activation = ("", "gelu")
    #: how it is trained and by which of its own forms the other implementation computes
    inert = tuple(
        """attn_impl attn_uses_sequence_id embedding_fraction emb_pdrop init_config init_device learned_pos_emb
        tokenizer_name use_pad_tok_in_ffn verbose""".split()
    )
    fixed = {"alibi": True, "alibi_bias_max": 8, "attn_type": "multihead_attention", "expansion_ratio": 4}
    fixed |= {"logit_scale": None, "no_bias": True, "prefix_lm": False, "qk_ln": False}
    norm, mlp = Decoder.layer_norm, Decoder.plain_mlp
    intermediate, bias, rotate, score_tokens = Bloom.intermediate, Bloom.bias, Bloom.rotate, Bloom.score_tokens

    def setup(self, c: Config) -> None:
        c.choice("norm_type", ("low_precision_layernorm", "layernorm"), "layernorm")
        attention = c.section("attn_config")
        self.most, self.scale = attention.number("clip_qkv", 0.0), attention.number("softmax_scale", self.scale)
        names = {"model": "transformer", "layers": "blocks", "embed_tokens": "wte", "norm": "norm_f"}
        names |= {"input_layernorm": "norm_1", "post_attention_layernorm": "norm_2"}
        names |= {"self_attn.o_proj": "attn.out_proj", "mlp": "ffn"}
        self.spelling = {**names, **joined("attn.Wqkv", self.outputs("q", "k", "v", under="self_attn"))}

    def qkv(self, op: Layers, x: Value, to: Value) -> Sequence[Value]:
        qkv = super().qkv(op, x, to)
        return [op.minimum(op.maximum(y, -self.most), self.most) for y in qkv] if self.most else qkv
