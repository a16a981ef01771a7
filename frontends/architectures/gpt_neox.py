"""GPT-NeoX."""

from burnish.frontends.architectures.gpt2 import GPT2
from burnish.frontends.family import MLP, At, Config, Decoder, Layers, LoadError, Value, interleaved
from burnish.frontends.rotary import Rotation, rope_frequencies


class GPTNeoX(Decoder):
    """Both parts of a block on one sum, a quarter of each head rotated, q, k and v as one (arXiv:2204.06745)."""

    names = ("GPTNeoX",)
    defaults = {"vocab_size": 50432, "hidden_size": 6144, "intermediate_size": 24576, "num_hidden_layers": 44}
    defaults |= {"num_attention_heads": 64, "max_position_embeddings": 2048}
    eps = ("layer_norm_eps", 1e-5)
    activation = ("hidden_act", "gelu")
    biased, bias_fields = MLP, {"attention_bias": True}
    unused = (".attention.bias",)
    norm = Decoder.layer_norm
    mlp = Decoder.plain_mlp
    score_tokens = GPT2.score_tokens

    def setup(self, c: Config) -> None:
        self.parallel = c.flag("use_parallel_residual", True)
        self.rotated, self.base_of_angles = c.number("rotary_pct", 0.25), c.number("rotary_emb_base", 10000.0)
        for name, value in (("partial_rotary_factor", self.rotated), ("rope_theta", self.base_of_angles)):
            if c.number(name, value) != value:  # some versions wrote both names
                raise LoadError(f"{c.where}: {name} is not what rotary_pct and rotary_emb_base say, {value:g}")
        names = {"model": "gpt_neox", "embed_tokens": "embed_in", "self_attn.o_proj": "attention.dense"}
        names |= {"norm": "final_layer_norm", "mlp.up_proj": "mlp.dense_h_to_4h", "mlp.down_proj": "mlp.dense_4h_to_h"}
        qkv = self.outputs("q", "k", "v", under="self_attn")
        self.in_memory = {**names, **interleaved("attention.query_key_value", qkv, self.heads)}
        self.spelling = {**self.in_memory, "lm_head": "embed_out"}

    def block(self, op: Layers, x: Value, at: At) -> Value:
        if not self.parallel:
            return super().block(op, x, at)
        return self.parallel_block(op, x, at, "input_layernorm", "post_attention_layernorm")

    def frequencies(self, layer: int) -> Rotation:
        return rope_frequencies(self.config, self.head_dim, self.rotated, theta=("rope_theta", self.base_of_angles))
