"""Llama, and what differs from it by data."""

from typing import Any

from tests.parity.model_type import LENGTH, LLAMA, ModelType


def rope(kind: str, theta: float = 500.0, **more: Any) -> dict[str, Any]:
    """The section of the config for that kind of rotation."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **more}}


SHORT_KEY = "original_max_position_embeddings"
SHORT = {SHORT_KEY: LENGTH // 2}
BY_LENGTH = {"short_factor": [1.0 + i / 4 for i in range(8)], "long_factor": [3.0 + i for i in range(8)]}

FOUR = LLAMA | {"num_hidden_layers": 4}
LONGROPE = rope("longrope", factor=4.0, **SHORT, **BY_LENGTH)
YARN = rope("yarn", factor=4.0, **SHORT)

TYPES = [
    ModelType(
        "LlamaForCausalLM",
        LLAMA,
        [
            rope("linear", factor=3.0),
            rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, **SHORT),
            YARN,
            rope("yarn", factor=4.0, beta_fast=4.0, beta_slow=0.5, truncate=False, **SHORT),
            rope("yarn", factor=4.0, mscale=0.7, mscale_all_dim=1.2, **SHORT),
            rope("yarn", attention_factor=0.8, factor=None, **SHORT),
            rope("dynamic", factor=3.0) | {"max_position_embeddings": LENGTH // 2},
            LONGROPE,
            rope("longrope", **SHORT, **BY_LENGTH) | {"max_position_embeddings": 200, "head_dim": 16},
            {},
            {"attention_bias": True, "mlp_bias": True, "head_dim": 24, "tie_word_embeddings": True},
        ],
    ),
    ModelType(
        "MistralForCausalLM",
        LLAMA | {"sliding_window": None},
        [{}, LONGROPE | {"sliding_window": 7}, {"sliding_window": 7, "head_dim": 8}],
    ),
    ModelType(
        "MinistralForCausalLM",
        LLAMA | {"head_dim": 16},
        [{"sliding_window": 5}, {"sliding_window": 7, "layer_types": ["full_attention", "sliding_attention"]}],
    ),
    ModelType(
        "Ministral3ForCausalLM",
        LLAMA,
        [
            {"sliding_window": 7},
            rope(
                "yarn", factor=4.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.3, **{**SHORT, SHORT_KEY: 5}
            ),
        ],
    ),
    ModelType(
        "Qwen2ForCausalLM",
        FOUR,
        [{}, YARN, {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2}],
    ),
    ModelType(
        "Qwen3ForCausalLM",
        FOUR | {"head_dim": 24},
        [YARN, {"attention_bias": True, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2}],
    ),
    ModelType("Qwen2Model", LLAMA, [{}, {"tie_word_embeddings": True}]),
    ModelType("Qwen3Model", LLAMA | {"head_dim": 16}, [{}, YARN]),
    ModelType(
        "Phi3ForCausalLM",
        LLAMA | {"pad_token_id": 0, "head_dim": 16},
        [
            {"sliding_window": 7},
            LONGROPE | {"original_max_position_embeddings": 9, "sliding_window": 7},
            rope(
                "longrope",
                partial_rotary_factor=0.75,
                short_factor=[1.0, 2, 3, 1, 2, 3],
                long_factor=[4.0, 5, 6, 4, 5, 6],
            )
            | {"original_max_position_embeddings": 11},
        ],
    ),
    ModelType(
        "GraniteForCausalLM",
        LLAMA,
        [
            {},
            {"embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22}
            | {"attention_multiplier": 0.3, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        ],
    ),
    ModelType(
        "SmolLM3ForCausalLM",
        FOUR | {"pad_token_id": 0},
        [
            {},
            {"no_rope_layers": [1, 0, 0, 1], "attention_bias": True, "tie_word_embeddings": False},
            {"use_sliding_window": True, "sliding_window": 7, "no_rope_layer_interval": 3, "mlp_bias": True},
        ],
    ),
    ModelType(
        "SeedOssForCausalLM",
        LLAMA | {"head_dim": 24},
        [{"attention_bias": False, "mlp_bias": True}, {"attention_out_bias": True, "tie_word_embeddings": True}],
    ),
    ModelType(
        "Ernie4_5ForCausalLM", LLAMA | {"head_dim": 24}, [{}, YARN | {"use_bias": True, "tie_word_embeddings": False}]
    ),
    ModelType(
        "Exaone4ForCausalLM",
        FOUR,
        [
            {"sliding_window": None, "layer_types": ["full_attention"] * 4},
            YARN | {"sliding_window": 7, "sliding_window_pattern": 3},
            {"sliding_window": 7},
        ],
    ),
    ModelType(
        "HunYuanDenseV1ForCausalLM",
        LLAMA | {"head_dim": 24},
        [
            {"attention_bias": True},
            rope("dynamic", factor=2.0) | {"max_position_embeddings": LENGTH // 2},
            rope("dynamic", alpha=50.0, factor=1.0, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0)
            | {"max_position_embeddings": LENGTH // 2},
        ],
    ),
    ModelType("HeliumForCausalLM", LLAMA | {"head_dim": 16}, [YARN, {"attention_bias": True, "mlp_bias": True}]),
    ModelType("ArceeForCausalLM", LLAMA, [YARN, {"attention_bias": True, "mlp_bias": True, "hidden_act": "silu"}]),
]
