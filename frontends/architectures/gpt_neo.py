"""GPT-Neo."""

from itertools import islice

from burnish.frontends.architectures.gpt2 import GPT2
from burnish.frontends.family import MLP, Config, LoadError, shown


class GPTNeo(GPT2):
    """GPT-2 with scores as they are, every other layer within a window (EleutherAI, 2021)."""

    names = ("GPTNeo",)
    keys = {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"}
    defaults = {"vocab_size": 50257, "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16}
    defaults |= {"max_position_embeddings": 2048}
    biased = ("o", *MLP)
    inert = ("embed_dropout", "resid_dropout")
    unused = (".attention.bias",)
    spelling = {**GPT2.spelling, "self_attn": "attn.attention"}
    spelling |= {"o_proj": "out_proj", "up_proj": "c_fc", "down_proj": "c_proj"}

    def setup(self, c: Config) -> None:
        self.scale, n = 1.0, self.layers
        said = c.get("attention_types") or [[["global", "local"], 12]]
        try:
            kinds = list(islice((kind for some, times in said for kind in list(some)[:n] * min(times, n)), n + 1))
        except (TypeError, ValueError):
            kinds = []
        if len(kinds) != n:
            raise LoadError(f"{c.where}: attention_types {shown(said)} does not give {n} layers their type")
        window = c.integer("window_size", 256)
        self.windows = [window * (k == "local") for k in c.choices("attention_layers", ("global", "local"), kinds)]
