"""Decoders with learned positions, or ALiBi."""

from tests.parity.model_type import ModelType

BLOOM = {"vocab_size": 96, "hidden_size": 64, "n_layer": 2, "n_head": 4}
MPT = {"vocab_size": 96, "d_model": 48, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}
GPT2 = {"vocab_size": 96, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64}
OPT = {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 80}
OPT |= {"max_position_embeddings": 64}
NEO = {"vocab_size": 96, "hidden_size": 48, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 64}
NEO |= {"attention_types": [[["global", "local"], 1]], "window_size": 7}
CODEGEN = {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 8}
BIOGPT = {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
BIOGPT |= {"intermediate_size": 80, "max_position_embeddings": 64}
XGLM = {"vocab_size": 96, "d_model": 48, "num_layers": 2, "attention_heads": 4, "ffn_dim": 80}

TYPES = [
    ModelType("GPT2LMHeadModel", GPT2, [{}, {"n_inner": 80, "scale_attn_by_inverse_layer_idx": True}]),
    ModelType(
        "GPTBigCodeForCausalLM",
        GPT2,
        [{}, {"multi_query": False, "n_inner": 80, "tie_word_embeddings": False}, {"scale_attn_weights": False}],
    ),
    ModelType(
        "GPTNeoForCausalLM",
        NEO,
        [{}, {"attention_types": [[["local"], 2], [["global"], 1]], "num_layers": 3, "intermediate_size": 80}],
    ),
    ModelType(
        "OPTForCausalLM",
        OPT,
        [
            {},
            {"do_layer_norm_before": False, "word_embed_proj_dim": 32},
            {"enable_bias": False, "layer_norm_elementwise_affine": False, "tie_word_embeddings": False},
            {"_remove_final_layer_norm": True, "word_embed_proj_dim": 32},
        ],
    ),
    ModelType("CodeGenForCausalLM", CODEGEN, [{}, {"n_head": 8, "rotary_dim": 4, "n_inner": 80, "n_positions": 30}]),
    ModelType("XGLMForCausalLM", XGLM, [{}, {"scale_embedding": False, "activation_function": "relu"}]),
    ModelType("BloomForCausalLM", BLOOM, [{}, {"n_head": 6, "hidden_size": 48, "tie_word_embeddings": False}]),
    ModelType("MptForCausalLM", MPT, [{}, {"n_heads": 6, "attn_config": {"clip_qkv": 0.5, "softmax_scale": 0.3}}]),
]
