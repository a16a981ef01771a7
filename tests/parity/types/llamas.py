"""Llama, and what differs from it by data."""

from typing import Any

from tests.parity.model_type import LENGTH, LLAMA, ModelType


def rope(kind: str, theta: float = 500.0, **more: Any) -> dict[str, Any]:
    """The section of the config for that kind of rotation."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **more}}


SHORT = {"original_max_position_embeddings": LENGTH // 2}
BY_LENGTH = {"short_factor": [1.0 + i / 4 for i in range(8)], "long_factor": [3.0 + i for i in range(8)]}

TYPES = [
    ModelType(
        "LlamaForCausalLM",
        LLAMA,
        [
            rope("linear", factor=3.0),
            rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, **SHORT),
            rope("yarn", factor=4.0, **SHORT),
            rope("yarn", factor=4.0, beta_fast=4.0, beta_slow=0.5, truncate=False, **SHORT),
            rope("yarn", factor=4.0, mscale=0.7, mscale_all_dim=1.2, **SHORT),
            rope("yarn", attention_factor=0.8, factor=None, **SHORT),
            rope("dynamic", factor=3.0) | {"max_position_embeddings": LENGTH // 2},
            rope("longrope", factor=4.0, **SHORT, **BY_LENGTH),
            rope("longrope", **SHORT, **BY_LENGTH) | {"max_position_embeddings": 200, "head_dim": 16},
            {},
            {"attention_bias": True, "mlp_bias": True, "head_dim": 24, "tie_word_embeddings": True},
        ],
    ),
    ModelType("MistralForCausalLM", LLAMA | {"sliding_window": None}, [{}, {"sliding_window": 7, "head_dim": 8}]),
]
