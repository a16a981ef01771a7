"""BLOOM."""

from burnish.frontends.architectures.gpt2 import GPT2
from burnish.frontends.family import ATTENTION, MLP, At, Config, Decoder, Layers, Value, alibi_slopes, interleaved


class Bloom(Decoder):
    """ALiBi in the place of positions, a norm of the words, q, k and v as one (arXiv:2211.05100)."""

    names = ("Bloom",)
    keys = {"hidden_size": "n_embed", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
    keys |= {"max_position_embeddings": "seq_length"}  # of training: there is no limit
    defaults = {"vocab_size": 250880, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8}
    eps, biased, ties = ("layer_norm_epsilon", 1e-5), ATTENTION + MLP, True
    activation = ("", "gelu_new")
    #: by which of its own forms the other implementation computes
    inert = tuple(
        """attention_softmax_in_fp32 bias_dropout_fusion masked_softmax_fusion n_inner offset_alibi skip_bias_add
        skip_bias_add_qkv""".split()
    )
    fixed = {"slow_but_exact": False}
    unused = ("scale_mask_softmax.causal_mask",)
    norm, mlp, score_tokens = Decoder.layer_norm, Decoder.plain_mlp, GPT2.score_tokens

    def setup(self, c: Config) -> None:
        self.over_norms = c.flag("apply_residual_connection_post_layernorm", False)
        names = {"model": "transformer", "layers": "h", "embed_tokens": "word_embeddings", "norm": "ln_f"}
        names |= {"self_attn.o_proj": "self_attention.dense"}
        names |= {"mlp.up_proj": "mlp.dense_h_to_4h", "mlp.down_proj": "mlp.dense_4h_to_h"}
        qkv = self.outputs("q", "k", "v", under="self_attn")
        self.spelling = {**names, **interleaved("self_attention.query_key_value", qkv, self.heads)}

    @property
    def intermediate(self) -> int:
        return 4 * self.width

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        return self.norm(op, "word_embeddings_layernorm", super().embed(op, ids, at))

    def bias(self, op: Layers, x: Value, at: At) -> Value:
        return op.alibi(op.constant(alibi_slopes(self.heads)), query=x.shape[1], key=x.shape[1])

    def rotate(self, op: Layers, x: Value, at: At) -> Value:
        return x

    def block(self, op: Layers, x: Value, at: At) -> Value:
        if not self.over_norms:
            return super().block(op, x, at)
        x = self.norm(op, "input_layernorm", x)
        x = self.norm(op, "post_attention_layernorm", x + self.self_attention(op, x, at))
        return x + self.feed_forward(op, x)
