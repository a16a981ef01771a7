"""Mixtures of experts."""

from tests.parity.model_type import LLAMA, ModelType

FEW = LLAMA | {"num_experts_per_tok": 2}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 12}
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 12, "factor": 4.0}
LONG |= {"short_factor": [1.0 + i / 4 for i in range(8)], "long_factor": [3.0 + i for i in range(8)]}
LONG |= {"short_mscale": 1.25, "long_mscale": 1.25}
LOCAL, OWN = FEW | {"num_local_experts": 4}, FEW | {"num_experts": 4, "moe_intermediate_size": 48}
DEEP = FEW | {"n_routed_experts": 4, "moe_intermediate_size": 48}

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
        "GptOssForCausalLM",
        LOCAL | {"head_dim": 24, "sliding_window": 7, "rope_parameters": YARN},
        [
            {"rope_parameters": YARN | {"truncate": False}},
            {"num_experts_per_tok": 3, "attention_bias": False, "swiglu_limit": 0.5, "swiglu_alpha": 2.0}
            | {"layer_types": ["full_attention", "sliding_attention"], "tie_word_embeddings": True},
        ],
    ),
    ModelType(
        "Glm4MoeForCausalLM",
        DEEP,
        [
            {"use_qk_norm": True, "head_dim": 24},
            {"num_hidden_layers": 3, "n_shared_experts": 2, "routed_scaling_factor": 2.5, "norm_topk_prob": False}
            | {"n_routed_experts": 8, "n_group": 4, "topk_group": 2, "attention_bias": True}
            | {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0, "partial_rotary_factor": 0.25}},
        ],
    ),
    ModelType(
        "PhimoeForCausalLM",
        LOCAL,
        [
            {"router_jitter_noise": 0.5, "rope_parameters": LONG},
            {"rope_parameters": YARN | {"short_mscale": 1.5, "long_mscale": 1.5}},
            {"attention_bias": True, "lm_head_bias": True, "router_jitter_noise": 0.2, "num_local_experts": 8}
            | {"sliding_window": 7},
        ],
    ),
    ModelType(
        "GraniteMoeForCausalLM",
        LOCAL,
        [
            {"attention_multiplier": 0.25},
            {"attention_multiplier": 0.2, "embedding_multiplier": 3.0, "residual_multiplier": 0.5}
            | {"logits_scaling": 8.0, "attention_bias": True, "tie_word_embeddings": True},
        ],
    ),
    ModelType(
        "Ernie4_5_MoeForCausalLM",
        FEW | {"moe_k": 2, "moe_num_experts": 4, "moe_intermediate_size": 48},
        [
            {"moe_num_shared_experts": 0, "moe_layer_start_index": 0, "tie_word_embeddings": False},
            {"num_hidden_layers": 4, "moe_layer_interval": 2, "moe_layer_end_index": 2, "use_bias": True}
            | {"moe_layer_start_index": 0, "moe_norm_min": 0.9},
        ],
    ),
]
