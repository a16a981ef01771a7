"""Llama, and what differs from it by data."""

from tests.parity.model_type import LLAMA, ModelType

TYPES = [
    ModelType(
        "LlamaForCausalLM",
        LLAMA,
        [
            {},
            {"attention_bias": True, "mlp_bias": True, "head_dim": 24, "tie_word_embeddings": True},
        ],
    ),
    ModelType("MistralForCausalLM", LLAMA | {"sliding_window": None}, [{}, {"sliding_window": 7, "head_dim": 8}]),
]
