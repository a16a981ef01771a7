"""Decoders with other norms and parallel residuals, and Gemma."""

from tests.parity.model_type import LLAMA, ModelType

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 4}
FOUR = {"num_hidden_layers": 4, "sliding_window": 7}
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}
BY_TYPE = {"full_attention": LINEAR, "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}}
GLM = LLAMA | {"head_dim": 16, "pad_token_id": 0}
GPTJ = {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 8}
FALCON = {k: v for k, v in LLAMA.items() if k not in ("intermediate_size", "num_key_value_heads")}

TYPES = [
    ModelType(
        "GPTNeoXForCausalLM",
        {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"},
        [
            {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}},
            {"use_parallel_residual": False, "attention_bias": False, "tie_word_embeddings": True},
        ],
    ),
    ModelType(
        "CohereForCausalLM",
        LLAMA,
        [{"use_qk_norm": True, "logit_scale": 0.5}, {"attention_bias": True, "tie_word_embeddings": False}],
    ),
    ModelType(
        "Cohere2ForCausalLM",
        LLAMA | FOUR,
        [{}, {"attention_bias": True, "layer_types": ["full_attention", "sliding_attention"] * 2}],
    ),
    ModelType("OlmoForCausalLM", LLAMA, [{"attention_bias": True}, {"clip_qkv": 0.6, "tie_word_embeddings": True}]),
    ModelType("Olmo2ForCausalLM", LLAMA, [{}, {"attention_bias": True, "rope_parameters": LINEAR}]),
    ModelType("Olmo3ForCausalLM", LLAMA | FOUR, [{}, {"attention_bias": True, "rope_parameters": BY_TYPE}]),
    ModelType("GlmForCausalLM", GLM, [{}, {"attention_bias": False, "head_dim": 24}]),
    ModelType(
        "Glm4ForCausalLM",
        GLM,
        [{}, {"tie_word_embeddings": True, "rope_parameters": LINEAR | {"partial_rotary_factor": 0.25}}],
    ),
    ModelType(
        "StableLmForCausalLM",
        LLAMA,
        [{"use_qkv_bias": True}, {"qk_layernorm": True}, {"use_parallel_residual": True, "qk_layernorm": True}],
    ),
    ModelType(
        "Starcoder2ForCausalLM",
        LLAMA,
        [{}, {"sliding_window": 7, "use_bias": False, "tie_word_embeddings": False}],
    ),
    ModelType("PhiForCausalLM", LLAMA, [{}, {"qk_layernorm": True, "hidden_act": "silu", "tie_word_embeddings": True}]),
    ModelType("GPTJForCausalLM", GPTJ, [{}, {"n_inner": 96, "rotary_dim": 16, "activation_function": "gelu"}]),
    ModelType(
        "FalconForCausalLM",
        FALCON,
        [
            {},
            {"multi_query": False, "bias": True, "parallel_attn": False, "tie_word_embeddings": False},
            {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
            {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 96},
        ],
    ),
    ModelType(
        "NemotronForCausalLM",
        LLAMA,
        [{}, {"attention_bias": True, "mlp_bias": True, "head_dim": 24, "tie_word_embeddings": True}],
    ),
    ModelType(
        "GemmaForCausalLM",
        LLAMA | {"head_dim": 16},
        [{}, {"head_dim": 24, "attention_bias": True, "hidden_act": "silu", "tie_word_embeddings": False}],
    ),
    ModelType(
        "Gemma2ForCausalLM",
        LLAMA | FOUR | {"head_dim": 16, "query_pre_attn_scalar": 24},
        [{"attn_logit_softcapping": 2.0, "final_logit_softcapping": 4.0}, {"attn_logit_softcapping": None}],
    ),
    ModelType(
        "Gemma3ForCausalLM",
        LLAMA | FOUR | {"head_dim": 16, "num_hidden_layers": 6},
        [
            {"query_pre_attn_scalar": 24},
            {"final_logit_softcapping": 4.0, "num_hidden_layers": 2, "rope_parameters": BY_TYPE}
            | {"layer_types": ["full_attention", "sliding_attention"]},
        ],
    ),
    ModelType(
        "Gemma3TextModel",
        LLAMA | FOUR | {"head_dim": 16},
        [
            {"use_bidirectional_attention": True, "layer_types": ["sliding_attention", "full_attention"] * 2},
            {"use_bidirectional_attention": True, "sliding_window": 12},
        ],
    ),
]
