"""Configs as published ones have them, with what older versions and other tools wrote; transformers is the oracle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from burnish.ir.module import Module
from tests import models
from tests.frontends.architectures.feeding import assert_near, run

SIZES = {"vocab_size": 96, "max_position_embeddings": 64} | models.SIZES
GROUPED = SIZES | {"num_key_value_heads": 2, "rms_norm_eps": 1e-5, "hidden_act": "silu", "torch_dtype": "bfloat16"}
BART = {"vocab_size": 96, "d_model": 48, "encoder_layers": 2, "decoder_layers": 1, "num_hidden_layers": 2}
BART |= {"encoder_attention_heads": 4, "decoder_attention_heads": 3, "encoder_ffn_dim": 64, "decoder_ffn_dim": 80}
DISTILBERT = {"vocab_size": 96, "dim": 48, "hidden_dim": 80, "n_layers": 2, "n_heads": 3, "activation": "gelu"}
MAMBA = {"vocab_size": 96, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "state_size": 8}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama, of a family of tools": (
        "LlamaForCausalLM",
        GROUPED
        | {"is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {"kv_cache_dtype": {}}}
        | {"rope_theta": 100000, "rope_scaling": None, "pretraining_tp": 1, "tie_word_embeddings": True},
    ),
    "Llama, the first": ("LlamaForCausalLM", GROUPED | {"max_sequence_length": 2048, "pad_token_id": 0}),
    "Qwen2": (
        "Qwen2ForCausalLM",
        GROUPED
        | {"use_mrope": False, "max_window_layers": 1, "sliding_window": 4, "use_sliding_window": False}
        | {"rope_theta": 1000000.0},
    ),
    "Gemma2": (
        "Gemma2ForCausalLM",
        GROUPED
        | {"cache_implementation": "hybrid", "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh"}
        | {"sliding_window": 5, "sliding_window_size": 5, "query_pre_attn_scalar": 144},
    ),
    "GPT-NeoX, its fields under two names": (
        "GPTNeoXForCausalLM",
        SIZES
        | {"rotary_emb_base": 500, "rope_theta": 500, "rotary_pct": 0.5, "partial_rotary_factor": 0.5}
        | {"hidden_act": "gelu_fast", "attention_probs_dropout_prob": 0},
    ),
    "Phi-3": (
        "Phi3ForCausalLM",
        GROUPED
        | {"attention_bias": False, "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}, "pad_token_id": 3}
        | {"original_max_position_embeddings": 64, "rope_scaling": None, "sliding_window": 5},
    ),
    "Phi-4-mini": (
        "Phi3ForCausalLM",
        GROUPED
        | {"full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False, "mlp_bias": False, "pad_token_id": 3}
        | {"partial_rotary_factor": 0.75, "tie_word_embeddings": True},
    ),
    "Phi-3, saved anew from an old config": (
        "Phi3ForCausalLM",
        GROUPED
        | {"partial_rotary_factor": 0.5, "pad_token_id": 3}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}},
    ),
    **{
        f"Phi-3 for long texts, more than {n} tokens": (
            "Phi3ForCausalLM",
            GROUPED
            | {"original_max_position_embeddings": n, "pad_token_id": 3, "rope_theta": 10000.0}
            | {"rope_scaling": {"long_factor": [1.0, *range(2, 9)], "short_factor": [1.0] * 8, "type": "longrope"}},
        )
        for n in (12, 8)
    },
    "Qwen 2.5, for long texts": (
        "Qwen2ForCausalLM",
        GROUPED
        | {"rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 8, "type": "yarn"}}
        | {"max_window_layers": 70, "sliding_window": 131072, "use_sliding_window": False, "rope_theta": 1000000.0},
    ),
    "Qwen 3, for long texts": (
        "Qwen3ForCausalLM",
        GROUPED
        | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}, "head_dim": 16}
        | {"attention_bias": False, "max_window_layers": 36, "sliding_window": None, "use_sliding_window": False},
    ),
    "Llama 3.2": (
        "LlamaForCausalLM",
        GROUPED
        | {"rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "rope_type": "llama3"}}
        | {"rope_theta": 500000.0, "head_dim": 16, "mlp_bias": False, "attention_bias": False, "pretraining_tp": 1},
    ),
    "a Llama whose base grows": (
        "LlamaForCausalLM",
        GROUPED | {"rope_scaling": {"factor": 2.0, "type": "dynamic"}, "max_position_embeddings": 6},
    ),
    "EXAONE 4": (
        "Exaone4ForCausalLM",
        GROUPED
        | {"sliding_window": 4, "sliding_window_pattern": "LLLG", "head_dim": 16}
        | {"layer_types": ["sliding_attention", "full_attention"], "rope_theta": 1000000, "rope_scaling": None},
    ),
    "Hunyuan": (
        "HunYuanDenseV1ForCausalLM",
        GROUPED
        | {"rope_scaling": {"alpha": 1000.0, "beta_fast": 32, "beta_slow": 1, "factor": 1.0, "type": "dynamic"}}
        | {"add_classification_head": False, "attention_head_dim": 16, "cla_share_factor": 2, "class_num": 0}
        | {"dense_list": [48, 0], "eod_token_id": 127960, "head_dim": 16, "im_end_id": 5, "im_newline_id": 11}
        | {"im_start_id": 4, "mask_init_id": 12, "norm_type": "rms", "org_vocab_size": 96, "pad_id": 127961}
        | {"pool_type": "last", "sep_token_id": 127962, "text_end_id": 7, "text_start_id": 6, "use_cla": False}
        | {"use_qk_norm": True, "use_rotary_pos_emb": True, "mlp_bias": False, "attention_bias": False},
    ),
    "SmolLM 3": (
        "SmolLM3ForCausalLM",
        GROUPED
        | {"bos_token_id": None, "eos_token_id": 12, "no_rope_layer_interval": 4, "no_rope_layers": [1, 0]}
        | {"max_window_layers": 28, "mlp_bias": False}
        | {"rope_scaling": None, "rope_theta": 5000000.0, "sliding_window": None, "use_sliding_window": False}
        | {"layer_types": ["full_attention"] * 2, "pretraining_tp": 2, "pad_token_id": 4},
    ),
    "Granite 3": (
        "GraniteForCausalLM",
        GROUPED
        | {"attention_multiplier": 0.015625, "embedding_multiplier": 12.0, "logits_scaling": 8.0, "mlp_bias": False}
        | {"residual_multiplier": 0.22, "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": True},
    ),
    "Cohere": (
        "CohereForCausalLM",
        {k: v for k, v in GROUPED.items() if k != "rms_norm_eps"}
        | {"model_max_length": 131072, "rope_theta": 8000000.0, "pretraining_tp": 1},
    ),
    "Cohere 2": (
        "Cohere2ForCausalLM",
        {k: v for k, v in GROUPED.items() if k not in ("rms_norm_eps", "num_hidden_layers")}
        | {"sliding_window": 5, "sliding_window_pattern": 3, "num_hidden_layers": 3, "cache_implementation": "hybrid"}
        | {"logit_scale": 0.25, "head_dim": 16, "rope_theta": 50000, "use_embedding_sharing": True}
        | {"use_gated_activation": True, "use_parallel_block": True, "use_parallel_embedding": True}
        | {"layer_switch": 4, "order_of_interleaved_layers": "local_attn_first", "position_embedding_type": "rope_gptj"}
        | {"rotary_pct": 1.0},
    ),
    "Gemma, the first": (
        "GemmaForCausalLM",
        GROUPED | {"head_dim": 16, "hidden_act": "gelu", "hidden_activation": None, "rope_theta": 500.0},
    ),
    "Gemma 3, as published": (
        "Gemma3ForCausalLM",
        {k: v for k, v in GROUPED.items() if k != "hidden_act"}
        | {"head_dim": 16, "num_hidden_layers": 4, "sliding_window": 5, "sliding_window_pattern": 2}
        | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_theta": 1000.0, "rope_local_base_freq": 100.0}
        | {"hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 24, "cache_implementation": "hybrid"}
        | {"attn_logit_softcapping": None, "final_logit_softcapping": None, "use_bidirectional_attention": False},
    ),
    "OLMo 3, as published": (
        "Olmo3ForCausalLM",
        GROUPED
        | {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 5, "rope_theta": 1000.0}
        | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}
        | {"attention_dropout": 0.0, "pad_token_id": 3},
    ),
    "OLMo": ("OlmoForCausalLM", SIZES | {"clip_qkv": 0.5, "rope_scaling": None, "rope_theta": 500.0}),
    "GLM, which does not say how much is rotated": (
        "GlmForCausalLM",
        GROUPED | {"head_dim": 16, "attention_bias": True, "rms_norm_eps": 1.5625e-7, "pad_token_id": 3},
    ),
    "GLM 4": (
        "Glm4ForCausalLM",
        GROUPED | {"head_dim": 16, "attention_bias": False, "partial_rotary_factor": 0.25, "pad_token_id": 3},
    ),
    "StableLM": (
        "StableLmForCausalLM",
        {k: v for k, v in GROUPED.items() if k != "rms_norm_eps"}
        | {"norm_eps": 1e-5, "rope_pct": 0.25, "partial_rotary_factor": 0.5, "rope_theta": 500, "use_qkv_bias": True}
        | {"rotary_scaling_factor": 1.0, "attention_dropout": 0.0, "hidden_dropout": 0.0},
    ),
    "Phi-2": (
        "PhiForCausalLM",
        SIZES | {"hidden_act": "gelu_new", "partial_rotary_factor": 0.5, "qk_layernorm": False, "embd_pdrop": 0.0},
    ),
    "GPT-J": (
        "GPTJForCausalLM",
        {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": None}
        | {"rotary": True, "rotary_dim": 8, "scale_attn_weights": True, "summary_type": "cls_index"}
        | {"gradient_checkpointing": False, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5},
    ),
    "Falcon": (
        "FalconForCausalLM",
        {k: v for k, v in SIZES.items() if k != "intermediate_size"}
        | {"alibi": False, "apply_residual_connection_post_layernorm": False, "bias": False, "multi_query": True}
        | {"new_decoder_architecture": False, "parallel_attn": True, "layer_norm_epsilon": 1e-5, "num_kv_heads": 4},
    ),
    "Nemotron": (
        "NemotronForCausalLM",
        {k: v for k, v in GROUPED.items() if k not in ("rms_norm_eps", "hidden_act")}
        | {"hidden_act": "relu2", "norm_eps": 1e-5, "partial_rotary_factor": 0.5},
    ),
    "GPT-2": (
        "GPT2LMHeadModel",
        {"vocab_size": 96, "n_embd": 48, "n_layer": 2, "n_head": 3, "n_positions": 64, "n_ctx": 64}
        | {"n_special": 0, "predict_special_tokens": True, "summary_activation": None, "task_specific_params": {}},
    ),
    "StarCoder": (
        "GPTBigCodeForCausalLM",
        {"vocab_size": 96, "n_embd": 48, "n_layer": 2, "n_head": 3, "n_inner": 64, "n_positions": 64}
        | {"activation_function": "gelu", "attention_softmax_in_fp32": True, "inference_runner": 0}
        | {"pad_key_length": True, "pre_allocate_kv_cache": False, "validate_runner_input": True}
        | {"scale_attention_softmax_in_fp32": True, "summary_type": "cls_index", "max_batch_size": None},
    ),
    "StarCoder 2, with the fields of its training": (
        "Starcoder2ForCausalLM",
        {k: v for k, v in GROUPED.items() if k not in ("rms_norm_eps", "hidden_act")}
        | {"activation_function": "gelu", "attention_softmax_in_fp32": True, "hidden_act": "gelu_pytorch_tanh"}
        | {"layer_norm_epsilon": 1e-05, "mlp_type": "default", "norm_epsilon": 1e-05, "norm_type": "layer_norm"}
        | {"rope_theta": 999999.4420358813, "scale_attention_softmax_in_fp32": True, "scale_attn_weights": True}
        | {"embedding_dropout": 0.1, "residual_dropout": 0.1, "sliding_window": 5, "use_bias": True},
    ),
    "GPT-Neo, its layers said twice": (
        "GPTNeoForCausalLM",
        {"vocab_size": 96, "hidden_size": 48, "num_layers": 2, "num_heads": 3, "max_position_embeddings": 64}
        | {"attention_layers": ["global", "local"], "attention_types": [[["global", "local"], 1]], "window_size": 5}
        | {"embed_dropout": 0, "resid_dropout": 0, "gradient_checkpointing": False, "intermediate_size": None},
    ),
    "BLOOM, under the names of its training": (
        "BloomForCausalLM",
        {"vocab_size": 96, "n_embed": 48, "n_layer": 2, "num_attention_heads": 3, "seq_length": 2048}
        | {"attention_softmax_in_fp32": True, "bias_dropout_fusion": True, "masked_softmax_fusion": True}
        | {"offset_alibi": 100, "pretraining_tp": 4, "skip_bias_add": True, "skip_bias_add_qkv": False},
    ),
    "MPT": (
        "MptForCausalLM",
        {"vocab_size": 96, "d_model": 48, "n_layers": 2, "n_heads": 3, "max_seq_len": 64, "verbose": 0}
        | {"attn_config": {"alibi": True, "alibi_bias_max": 8, "attn_impl": "torch", "clip_qkv": 0.5, "qk_ln": False}}
        | {"init_config": {"name": "kaiming_normal_"}, "init_device": "cpu", "no_bias": True, "norm_type": "layernorm"}
        | {"learned_pos_emb": True, "tokenizer_name": "EleutherAI/gpt-neox-20b"},
    ),
    "CodeGen": (
        "CodeGenForCausalLM",
        {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_ctx": 64, "rotary_dim": 8}
        | {"scale_attn_weights": True, "summary_use_proj": True, "tokenizer_class": "GPT2Tokenizer"},
    ),
    "BERT, that scores pairs": (
        "BertForSequenceClassification",
        SIZES
        | {"id2label": {"0": "LABEL_0"}, "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}
        | {"sentence_transformers": {"version": "4.1.0"}, "language": "english", "name": "Bert"},
    ),
    "BERT, of the first implementation": (
        "BertForMaskedLM",
        SIZES
        | {"directionality": "bidi", "pooler_fc_size": 768, "pooler_num_attention_heads": 12}
        | {"pooler_num_fc_layers": 3, "pooler_size_per_head": 128, "pooler_type": "first_token_transform"},
    ),
    "MPNet": ("MPNetForMaskedLM", SIZES | {"gradient_checkpointing": False, "relative_attention_num_buckets": 32}),
    "ALBERT": (
        "AlbertForMaskedLM",
        SIZES
        | {"embedding_size": 24, "num_hidden_groups": 1, "inner_group_num": 1, "classifier_dropout_prob": 0.1}
        | {"down_scale_factor": 1, "gap_size": 0, "net_structure_type": 0, "num_memory_blocks": 0},
    ),
    "ELECTRA": (
        "ElectraForMaskedLM",
        SIZES
        | {"embedding_size": 24, "summary_activation": "gelu", "summary_last_dropout": 0.1, "summary_type": "first"}
        | {"summary_use_proj": True, "type_vocab_size": 2, "position_embedding_type": "absolute"},
    ),
    "DeBERTa": (
        "DebertaForMaskedLM",
        SIZES
        | {"relative_attention": True, "position_biased_input": False, "pos_att_type": "c2p|p2c", "type_vocab_size": 0}
        | {"max_relative_positions": -1, "padding_idx": 0, "pooler_dropout": 0, "pooler_hidden_act": "gelu"},
    ),
    "EuroBERT": (
        "EuroBertForMaskedLM",
        GROUPED
        | {"bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>", "pad_token": "</s>", "pad_token_id": 3}
        | {"bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 4, "clf_pooling": "late", "hidden_dropout": 0.0}
        | {"rope_theta": 250000, "rope_scaling": None, "pretraining_tp": 1},
    ),
    "DistilBERT": ("DistilBertForMaskedLM", DISTILBERT | {"tie_weights_": True, "output_past": True}),
    "BART, more blocks in its encoder than in its decoder": (
        "BartForConditionalGeneration",
        BART
        | {"add_final_layer_norm": False, "normalize_before": False, "static_position_embeddings": False}
        | {"add_bias_logits": False, "normalize_embedding": True, "extra_pos_embeddings": 2, "save_step": 64}
        | {"force_bos_token_to_be_generated": True, "replacing_rate": 0, "student_decoder_layers": None},
    ),
    "mBART": (
        "MBartForConditionalGeneration",
        BART
        | {"add_final_layer_norm": True, "normalize_before": True, "normalize_embedding": True, "scale_embedding": True}
        | {"static_position_embeddings": False, "tokenizer_class": "MBart50Tokenizer", "_num_labels": 3},
    ),
    "Marian": (
        "MarianMTModel",
        BART
        | {"activation_function": "swish", "decoder_vocab_size": 96, "share_encoder_decoder_embeddings": True}
        | {"normalize_before": False, "normalize_embedding": False, "static_position_embeddings": True}
        | {"bad_words_ids": [[95]], "scale_embedding": True, "pad_token_id": 95, "decoder_start_token_id": 95},
    ),
    "Pegasus": (
        "PegasusForConditionalGeneration",
        BART
        | {"add_final_layer_norm": True, "normalize_before": True, "normalize_embedding": False}
        | {"extra_pos_embeddings": 1, "static_position_embeddings": True, "scale_embedding": True},
    ),
    "BlenderBot": (
        "BlenderbotForConditionalGeneration",
        BART
        | {"add_final_layer_norm": True, "normalize_before": True, "normalize_embedding": False}
        | {"do_blenderbot_90_layernorm": True, "extra_pos_embeddings": 0, "layernorm_variant": "prelayernorm"},
    ),
    "umT5": (
        "UMT5ForConditionalGeneration",
        {"vocab_size": 96, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}
        | {"dense_act_fn": "gelu_new", "is_gated_act": True, "feed_forward_proj": "gated-gelu"}
        | {"scalable_attention": True, "tie_word_embeddings": False},
    ),
    "Mamba, sizes under two names": (
        "MambaForCausalLM",
        MAMBA
        | {"d_inner": 96, "d_model": 48, "n_layer": 2, "fused_add_norm": True, "pad_vocab_size_multiple": 8}
        | {"rms_norm": True, "ssm_cfg": {}, "time_step_rank": 3},
    ),
}  # fmt: skip


def saved(case: str, folder: Path) -> Any:
    """The oracle of a case, its checkpoint in `folder`, with the config as it is given here."""
    name, config = CASES[case]
    cls = getattr(transformers, name)
    oracle = models.randomised(cls(cls.config_class.from_dict(json.loads(json.dumps(config)))))
    models.saved(oracle, folder)
    (folder / "config.json").write_text(json.dumps({"architectures": [name]} | config))
    return oracle


def logits(module: Module, ids: np.ndarray) -> np.ndarray:
    """Of all tokens; a model with an encoder reads them in both."""
    if "encoder" not in module.graphs:
        return run(module, "forward", ids=ids)["logits"]
    states, count = run(module, "encoder", ids=ids)["hidden"], np.full(len(ids), ids.shape[1], "i4")
    return run(module, "decoder", ids=ids, encoder_hidden=states, encoder_count=count)["logits"]


@pytest.mark.parametrize("case", CASES)
def test_numbers_are_the_oracles(case: str, tmp_path: Path) -> None:
    oracle, ids = saved(case, tmp_path), models.tokens((2, 11))
    more = {"decoder_input_ids": ids} if oracle.config.is_encoder_decoder else {}
    assert_near(logits(load_checkpoint(tmp_path), ids), models.logits_of(oracle, input_ids=ids, **more))


@pytest.mark.parametrize(
    ("case", "field", "value"),
    [
        ("Llama, of a family of tools", "rope_interleaved", True),
        ("Qwen2", "use_mrope", True),
        ("Phi-3", "attention_bias", True),
        ("Llama 3.2", "layer_types", ["full_attention"] * 2),
        ("Hunyuan", "use_cla", True),
        ("Phi-4-mini", "lm_head_bias", True),
        ("BART, more blocks in its encoder than in its decoder", "normalize_before", True),
        ("BLOOM, under the names of its training", "slow_but_exact", True),
        ("MPT", "no_bias", False),
        ("StarCoder 2, with the fields of its training", "mlp_type", "gated"),
        ("Pegasus", "static_position_embeddings", False),
        ("Mamba, sizes under two names", "ssm_cfg", {"layer": "Mamba2"}),
    ],
)
def test_a_field_that_would_change_the_model_is_refused(case: str, field: str, value: Any, tmp_path: Path) -> None:
    saved(case, tmp_path)
    models.change_config(tmp_path, **{field: value})
    with pytest.raises(LoadError, match=f"does not know what to make of {field}="):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("change", [{"rotary_pct": 0.25}, {"rope_theta": 600}])
def test_two_names_that_say_otherwise_are_refused(change: dict[str, float], tmp_path: Path) -> None:
    saved("GPT-NeoX, its fields under two names", tmp_path)
    models.change_config(tmp_path, **change)
    with pytest.raises(LoadError, match=" is not what rotary_pct and rotary_emb_base say"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("case", ["Gemma 3, as published", "OLMo 3, as published"])
def test_sections_of_two_generations_are_refused(case: str, tmp_path: Path) -> None:
    saved(case, tmp_path)
    for section in ({"rope_type": "default", "rope_theta": 100.0}, {"full_attention": {"rope_theta": 100.0}}):
        models.change_config(tmp_path, rope_parameters=section)
        with pytest.raises(LoadError, match="rope_parameters must have a section for each type of layers, and no rope"):
            load_checkpoint(tmp_path)


def test_an_absent_epsilon_is_the_familys(tmp_path: Path) -> None:
    """Phi-3's is 1e-5, Mistral's 1e-6; small states show which."""
    oracle = saved("Phi-3", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["rms_norm_eps"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    ops = [n.op for n in load_checkpoint(tmp_path).graphs["forward"] if n.op.name == "rms_norm"]
    assert {op.eps for op in ops} == {oracle.config.rms_norm_eps}


def test_numbers_change_with_what_is_read(tmp_path: Path) -> None:
    """The comparison sees it when a field is read that says otherwise."""
    oracle, ids = saved("GPT-NeoX, its fields under two names", tmp_path), models.tokens((1, 7))
    models.change_config(tmp_path, rotary_pct=0.25, partial_rotary_factor=0.25)
    with torch.no_grad(), pytest.raises(AssertionError, match="of the largest"):
        assert_near(logits(load_checkpoint(tmp_path), ids), models.logits_of(oracle, input_ids=ids))
