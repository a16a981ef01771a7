"""Falcon."""

from burnish.frontends.architectures.gpt2 import GPT2
from burnish.frontends.family import ATTENTION, MLP, At, Config, Decoder, Layers, LoadError, Value, interleaved


class Falcon(Decoder):
    """Attention and a plain MLP side by side, q, k and v as one; keys of one head, or of groups (arXiv:2311.16867)."""

    names = ("Falcon",)
    keys = {"intermediate_size": "ffn_hidden_size"}
    defaults = {"vocab_size": 65024, "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71}
    eps = ("layer_norm_epsilon", 1e-5)
    activation = ("activation", "gelu")
    ties = True
    fixed = {"apply_residual_connection_post_layernorm": False}
    norm, mlp, score_tokens = Decoder.layer_norm, Decoder.plain_mlp, GPT2.score_tokens

    def setup(self, c: Config) -> None:
        self.grouped, shared = c.flag("new_decoder_architecture", False), c.flag("multi_query", True)
        self.parallel = c.flag("parallel_attn", True)
        self.norms = c.integer("num_ln_in_parallel_attn", 2 if self.grouped else 1, most=2)
        if (self.grouped and not self.parallel) or (self.parallel and self.norms > 1 and not self.grouped):
            raise LoadError(f"{c.where}: num_ln_in_parallel_attn and parallel_attn are not of one kind of block")
        if c.flag("alibi", False):
            raise LoadError(f"{c.where}: alibi is true, but only rotary positions are supported")
        groups = c.integer("num_kv_heads", self.heads)
        self.groups = groups if self.grouped else 1 if shared else self.heads
        self.biased = ATTENTION + MLP if c.flag("bias", False) else ()
        names = {"model": "transformer", "embed_tokens": "word_embeddings", "layers": "h", "norm": "ln_f"}
        names |= {"self_attn.o_proj": "self_attention.dense"}
        names |= {"mlp.up_proj": "mlp.dense_h_to_4h", "mlp.down_proj": "mlp.dense_4h_to_h"}
        if self.parallel and self.norms == 2:
            names |= {"input_layernorm": "ln_attn", "post_attention_layernorm": "ln_mlp"}
        qkv = interleaved("self_attention.query_key_value", self.outputs("q", "k", "v", under="self_attn"), self.groups)
        self.spelling = {**names, **qkv}

    @property
    def intermediate(self) -> int:
        return self.config.integer("intermediate_size", 4 * self.width)

    def block(self, op: Layers, x: Value, at: At) -> Value:
        if not self.parallel:
            return super().block(op, x, at)
        return self.parallel_block(op, x, at, *("input_layernorm", "post_attention_layernorm")[: self.norms])
