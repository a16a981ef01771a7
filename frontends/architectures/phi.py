"""Phi 1 and 2."""

from burnish.frontends.family import ATTENTION, MLP, Config, Decoder, Layers, Value


class Phi(Decoder):
    """Attention and a plain MLP side by side on one norm, half of each head rotated, biases (arXiv:2309.05463)."""

    names = ("Phi",)
    defaults = {"vocab_size": 51200, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24}
    defaults |= {"num_attention_heads": 32, "max_position_embeddings": 2048}
    eps = ("layer_norm_eps", 1e-5)
    activation = ("hidden_act", "gelu_new")
    biased = ATTENTION + MLP
    rotated = 0.5
    paths = {**Decoder.paths, "o": "dense", "up": "fc1", "down": "fc2"}
    spelling = {"norm": "final_layernorm"}
    norm, mlp, block = Decoder.layer_norm, Decoder.plain_mlp, Decoder.parallel_block

    def setup(self, c: Config) -> None:
        self.normed_heads = c.flag("qk_layernorm", False)

    def each_head(self, op: Layers, name: str, x: Value) -> Value:
        return self.norm(op, f"{name}_layernorm", x) if self.normed_heads else x

    def logits(self, op: Layers, x: Value) -> Value:
        return op.linear("lm_head", x, self.vocabulary, bias=True)
