"""BlenderBot, both sizes."""

from burnish.frontends.architectures.bart import Bart
from burnish.frontends.architectures.mbart import MBart
from burnish.frontends.family import At, EncoderDecoder, Layers, Value


class Blenderbot(Bart):
    """mBART without a norm of the words; positions counted from 0 (arXiv:2004.13637)."""

    names = ("Blenderbot",)
    defaults = Bart.defaults | {"vocab_size": 8008, "hidden_size": 2560, "num_hidden_layers": 2}
    defaults |= {"num_attention_heads": 32, "intermediate_size": 10240, "max_position_embeddings": 128}
    defaults |= {"decoder_start_token_id": 1}
    decoder_defaults = {"num_hidden_layers": 24}
    inert = ("do_blenderbot_90_layernorm", "layernorm_variant")
    fixed = MBart.fixed | {"normalize_embedding": False, "extra_pos_embeddings": 0}
    first = 0
    embed, part, final = Bart.placed, MBart.part, MBart.final


class BlenderbotSmall(Bart):
    """BART whose decoder has a norm of the words, never scaled, before positions from 0 (arXiv:2004.13637)."""

    names = ("BlenderbotSmall",)
    defaults = Bart.defaults | {"hidden_size": 512, "num_hidden_layers": 8, "intermediate_size": 2048}
    defaults |= {"max_position_embeddings": 512, "decoder_start_token_id": 1}
    inert = ("do_blenderbot_90_layernorm", "layernorm_variant")
    fixed = {"extra_pos_embeddings": 0}
    first = 0

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        if at.encoded is None:
            return super().embed(op, ids, at)
        return self.norm(op, "layernorm_embedding", EncoderDecoder.embed(self, op, ids, at)) + self.place(op, at)
