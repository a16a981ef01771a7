"""GPT-J."""

from burnish.frontends.architectures.gpt2 import GPT2
from burnish.frontends.architectures.phi import Phi
from burnish.frontends.family import MLP, Config, Decoder, Rotation, rope_frequencies


class GPTJ(Decoder):
    """Attention and a plain MLP side by side on one norm; the first 64 numbers of each head are rotated."""

    names = ("GPTJ",)
    keys = GPT2.keys
    defaults = {"vocab_size": 50400, "hidden_size": 4096, "num_hidden_layers": 28, "num_attention_heads": 16}
    defaults |= {"max_position_embeddings": 2048, "rotary_dim": 64}
    eps = ("layer_norm_epsilon", 1e-5)
    activation = ("activation_function", "gelu_new")
    biased = MLP
    interleaved = True
    inert, unused = GPT2.inert, GPT2.unused
    fixed = {"rotary": True, "scale_attn_weights": True}
    paths = {**Decoder.paths, "o": "out_proj", "up": "fc_in", "down": "fc_out"}
    spelling = {"model": "transformer", "layers": "h", "embed_tokens": "wte", "self_attn": "attn"}
    spelling |= {"norm": "ln_f", "input_layernorm": "ln_1"}
    norm, mlp, block = Decoder.layer_norm, Decoder.plain_mlp, Decoder.parallel_block
    intermediate, logits = GPT2.intermediate, Phi.logits

    def frequencies(self, layer: int) -> Rotation:
        return rope_frequencies(Config({}), self.config.integer("rotary_dim", least=2, most=self.head_dim))
