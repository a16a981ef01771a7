"""CodeGen."""

import numpy as np

from burnish.frontends.architectures.gpt2 import GPT2
from burnish.frontends.family import MLP, Config, Decoder, Layers, Rotation, Value, interleaved


class CodeGen(Decoder):
    """Attention and MLP side by side on one norm, some of each head rotated in neighbours (arXiv:2203.13474)."""

    names = ("CodeGen",)
    keys = GPT2.keys
    defaults = {"vocab_size": 50400, "hidden_size": 4096, "num_hidden_layers": 28, "num_attention_heads": 16}
    eps, activation, biased = GPT2.eps, GPT2.activation, MLP
    inert, interleaved = GPT2.inert, True
    fixed = {"scale_attn_weights": True}
    unused = (".attn.causal_mask",)
    norm, mlp, block, intermediate = Decoder.layer_norm, Decoder.plain_mlp, Decoder.parallel_block, GPT2.intermediate

    def setup(self, c: Config) -> None:
        names = {"model": "transformer", "layers": "h", "embed_tokens": "wte", "norm": "ln_f"}
        names |= {"input_layernorm": "ln_1", "self_attn.o_proj": "attn.out_proj"}
        names |= {"mlp.up_proj": "mlp.fc_in", "mlp.down_proj": "mlp.fc_out"}
        parts = 4  # of the machine it was trained on: each holds its heads' queries, values, keys
        self.spelling = {**names, **interleaved("attn.qkv_proj", self.outputs("q", "v", "k", under="self_attn"), parts)}

    def frequencies(self, layer: int) -> Rotation:
        size = self.config.integer("rotary_dim", 64, most=self.head_dim)
        return Rotation(np.array([10000.0 ** (-i / size) for i in range(0, size, 2)], "f4"))

    def logits(self, op: Layers, x: Value) -> Value:
        return op.linear("lm_head", x, self.vocabulary, bias=True)
