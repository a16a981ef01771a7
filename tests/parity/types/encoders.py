"""Encoders."""

from tests.parity.model_type import LLAMA, ModelType

BERT = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}

TYPES = [
    ModelType("BertModel", BERT, [{}, {"hidden_act": "relu", "type_vocab_size": 3, "layer_norm_eps": 1e-3}]),
]
