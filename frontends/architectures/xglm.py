"""XGLM."""

from burnish.frontends.architectures.opt import Opt
from burnish.frontends.family import ATTENTION, MLP, At, Config, Decoder, Layers, Value, sinusoids


class Xglm(Decoder):
    """Sinusoids, counted from 2, beside scaled words; norms before each part (arXiv:2112.10668)."""

    names = ("XGLM",)
    keys = {"hidden_size": "d_model", "num_hidden_layers": "num_layers", "num_attention_heads": "attention_heads"}
    keys |= {"intermediate_size": "ffn_dim"}
    defaults = {"vocab_size": 256008, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    defaults |= {"intermediate_size": 4096, "max_position_embeddings": 2048}
    eps, activation, ties = ("", 1e-5), ("activation_function", "gelu"), True
    biased = ATTENTION + MLP
    inert = ("decoder_start_token_id",)
    unused = ("embed_positions.weights",)  # they follow from the config
    paths = Opt.paths
    spelling = {"norm": "layer_norm", "input_layernorm": "self_attn_layer_norm"}
    spelling |= {"mlp.fc1": "fc1", "mlp.fc2": "fc2", "post_attention_layernorm": "final_layer_norm"}
    norm, mlp, rotate = Decoder.layer_norm, Decoder.plain_mlp, Opt.rotate

    def setup(self, c: Config) -> None:
        c.integer("pad_token_id", 1, least=0, most=1)  # its row is zeros, whatever position has it
        self.factor = self.width**0.5 if c.flag("scale_embedding", True) else 1.0

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        return super().embed(op, ids, at) * self.factor + sinusoids(op, at.positions + 2, self.width, closed=True)
