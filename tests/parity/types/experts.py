"""Mixtures of experts."""

from tests.parity.model_type import LLAMA, ModelType

FEW = LLAMA | {"num_experts_per_tok": 2}
LOCAL, OWN = FEW | {"num_local_experts": 4}, FEW | {"num_experts": 4, "moe_intermediate_size": 48}

TYPES = [
    ModelType(
        "MixtralForCausalLM",
        LOCAL,
        [{}, {"num_experts_per_tok": 3, "sliding_window": 7, "head_dim": 24, "tie_word_embeddings": True}],
    ),
    ModelType(
        "Qwen2MoeForCausalLM",
        OWN | {"shared_expert_intermediate_size": 80},
        [
            {"qkv_bias": False, "norm_topk_prob": True},
            {"num_hidden_layers": 4, "mlp_only_layers": [3], "decoder_sparse_step": 2}
            | {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 3},
        ],
    ),
    ModelType(
        "Qwen3MoeForCausalLM",
        OWN,
        [
            {"norm_topk_prob": True, "head_dim": 24},
            {"num_hidden_layers": 3, "mlp_only_layers": [1], "attention_bias": True}
            | {"use_sliding_window": True, "sliding_window": 7, "tie_word_embeddings": True},
        ],
    ),
    ModelType(
        "OlmoeForCausalLM",
        FEW | {"num_experts": 4},
        [{}, {"norm_topk_prob": True, "clip_qkv": 1.5, "attention_bias": True, "tie_word_embeddings": True}],
    ),
    ModelType(
        "FlexOlmoForCausalLM",
        FEW | {"num_experts": 4, "pad_token_id": 0, "eos_token_id": 1},
        [{}, {"norm_topk_prob": True, "attention_bias": True, "rms_norm_eps": 1e-3}],
    ),
]
