"""BART, and that of programs."""

from collections.abc import Sequence
from typing import Any, ClassVar

from burnish.frontends.family import At, EncoderDecoder, Layers, Step, Value


class Bart(EncoderDecoder):
    """Learned positions, counted from 2, and a norm after every sum (arXiv:1910.13461)."""

    names = ("Bart",)
    base = "model"
    keys = {"hidden_size": "d_model", "num_hidden_layers": "encoder_layers"}
    keys |= {"num_attention_heads": "encoder_attention_heads", "intermediate_size": "encoder_ffn_dim"}
    decoder_keys = {"num_hidden_layers": "decoder_layers", "num_attention_heads": "decoder_attention_heads"}
    decoder_keys |= {"intermediate_size": "decoder_ffn_dim"}
    defaults: ClassVar[dict[str, Any]] = {"vocab_size": 50265, "hidden_size": 1024, "num_hidden_layers": 12}
    defaults |= {"num_attention_heads": 16, "intermediate_size": 4096, "max_position_embeddings": 1024}
    defaults |= {"decoder_start_token_id": 2}
    eps = ("", 1e-5)
    activation = ("activation_function", "gelu")
    paths = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj", "up": "fc1", "down": "fc2"}
    #: of training and of tools, and of generation
    inert: ClassVar[tuple[str, ...]] = ("force_bos_token_to_be_generated", "replacing_rate", "save_step")
    #: of the families that were one class with it
    fixed: ClassVar[dict[str, Any]] = {"add_bias_logits": False, "add_final_layer_norm": False}
    fixed |= {"normalize_before": False, "normalize_embedding": True}
    fixed |= {"static_position_embeddings": False, "extra_pos_embeddings": 2}
    unused: tuple[str, ...] = ("encoder.version", "decoder.version")
    spelling = {"mlp.fc1": "fc1", "mlp.fc2": "fc2", "mlp_layer_norm": "final_layer_norm"}
    #: the row of position 0
    first: ClassVar[int] = 2

    def tied(self) -> Sequence[Sequence[str]]:
        names = ["model.shared", "model.encoder.embed_tokens", "model.decoder.embed_tokens"]
        names += ["lm_head"] * self.config.flag("tie_word_embeddings", True)
        return [[f"{name}.weight" for name in names]]

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"context": self.config.integer("max_position_embeddings")}

    def place(self, op: Layers, at: At) -> Value:
        """A row of a table for each position."""
        rows = self.config.integer("max_position_embeddings") + self.first
        return op.placed("embed_positions", at.positions, rows, self.width, self.first)

    def placed(self, op: Layers, ids: Value, at: At) -> Value:
        """Words, scaled where the config says so, and positions."""
        x = super().embed(op, ids, at)
        x = x * self.width**0.5 if self.config.flag("scale_embedding", False) else x
        return x + self.place(op, at)

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        return self.norm(op, "layernorm_embedding", self.placed(op, ids, at))

    def part(self, op: Layers, x: Value, at: At, name: str, step: Step) -> Value:
        with op.scope(name):
            y = step(x)
        return self.norm(op, f"{name}_layer_norm", x + y)

    def logits(self, op: Layers, x: Value) -> Value:
        words = self.as_decoder().vocabulary
        y, bias = op.linear("lm_head", x, words), op.optional("final_logits_bias", 1, words)
        return y if bias is None else y + op.cast(bias, to="f32")


class PLBart(Bart):
    """BART of programs, with scaled words (arXiv:2103.06333)."""

    names = ("PLBart",)
    defaults = Bart.defaults | {"vocab_size": 50005, "hidden_size": 768, "num_hidden_layers": 6}
    defaults |= {"num_attention_heads": 12, "intermediate_size": 3072, "scale_embedding": True}
    defaults |= {"decoder_start_token_id": None}
