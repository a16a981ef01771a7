"""Decoders with learned positions, or ALiBi."""

from tests.parity.model_type import ModelType

BLOOM = {"vocab_size": 96, "hidden_size": 64, "n_layer": 2, "n_head": 4}
MPT = {"vocab_size": 96, "d_model": 48, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}

TYPES = [
    ModelType("BloomForCausalLM", BLOOM, [{}, {"n_head": 6, "hidden_size": 48, "tie_word_embeddings": False}]),
    ModelType("MptForCausalLM", MPT, [{}, {"n_heads": 6, "attn_config": {"clip_qkv": 0.5, "softmax_scale": 0.3}}]),
]
