"""Encoder-decoders."""

from tests.parity.model_type import ModelType

T5 = {"vocab_size": 96, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}
T5 |= {"decoder_start_token_id": 0}
FEW = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 10}
BART = {"vocab_size": 96, "d_model": 48, "max_position_embeddings": 64, "encoder_layers": 2, "decoder_layers": 2}
BART |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 80, "decoder_ffn_dim": 80}
BART |= {"pad_token_id": 1, "decoder_start_token_id": 2}
APART = {"encoder_layers": 1, "decoder_layers": 3, "decoder_attention_heads": 2, "decoder_ffn_dim": 64}
APART |= {"activation_function": "swish"}
SCALED = ("PLBart", "M2M100")

TYPES = [
    ModelType(
        "T5ForConditionalGeneration",
        T5,
        [{}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "d_kv": 12, "num_decoder_layers": 3}],
    ),
    ModelType("MT5ForConditionalGeneration", T5, [{}, FEW | {"feed_forward_proj": "relu", "num_decoder_layers": 1}]),
    ModelType("UMT5ForConditionalGeneration", T5, [{}, FEW | {"d_kv": 12, "num_decoder_layers": 3}]),
    *(
        ModelType(f"{name}ForConditionalGeneration", BART, [{}, APART | {"scale_embedding": name not in SCALED}])
        for name in ("Bart", "MBart", "PLBart", "Pegasus", "M2M100", "Blenderbot", "BlenderbotSmall")
    ),
    ModelType(
        "MarianMTModel",
        BART,
        [
            {"activation_function": "swish", "scale_embedding": True},
            APART | {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 70},
        ],
    ),
]
