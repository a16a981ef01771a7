"""Encoders, each with every head."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.parity.model_type import LLAMA, ModelType

BERT = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
EURO = LLAMA | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 3}
HEADS = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def headed(
    name: str, config: Mapping[str, Any], variants: Sequence[Mapping[str, Any]], heads: Sequence[str] = HEADS
) -> list[ModelType]:
    """The base model, and the same with each head."""
    labels = {head: {} if head == "ForQuestionAnswering" else {"num_labels": 3} for head in heads}
    headed = [ModelType(name + head, {**config, **labels[head]}, variants) for head in heads]
    return [ModelType(f"{name}Model", config, variants), *headed]


TYPES = [
    *headed("Bert", BERT, [{}, {"hidden_act": "relu", "type_vocab_size": 3, "layer_norm_eps": 1e-3}]),
    *headed("Roberta", BERT, [{}, {"hidden_act": "relu", "pad_token_id": 3, "type_vocab_size": 1}]),
    *headed("XLMRoberta", BERT, [{}, {"hidden_act": "gelu_new", "pad_token_id": 0, "layer_norm_eps": 1e-5}]),
    *headed("Camembert", BERT, [{}, {"type_vocab_size": 1, "layer_norm_eps": 1e-5}]),
    *headed("MPNet", BERT, [{}, {"hidden_act": "relu", "layer_norm_eps": 1e-5, "pad_token_id": 0}]),
    *headed(
        "Electra",
        BERT | {"embedding_size": 24},
        [{"embedding_size": 64}, {"hidden_act": "relu", "type_vocab_size": 3}],
        (*HEADS, "ForPreTraining"),
    ),
    *headed(
        "Albert",
        BERT | {"embedding_size": 24, "num_hidden_layers": 3},
        [{}, {"num_hidden_groups": 2, "inner_group_num": 2, "embedding_size": 64, "hidden_act": "relu"}],
    ),
    *headed(
        "DebertaV2",
        BERT | {"relative_attention": True, "position_buckets": 8, "max_relative_positions": 20},
        [
            {"pos_att_type": ["p2c", "c2p"], "share_att_key": True, "norm_rel_ebd": "layer_norm"}
            | {"position_biased_input": False, "legacy": False},
            {"pos_att_type": "c2p", "conv_kernel_size": 3, "conv_act": "gelu", "position_buckets": -1},
            {"relative_attention": False, "type_vocab_size": 3},
            {"pos_att_type": ["p2c", "c2p"], "share_att_key": False, "norm_rel_ebd": "layer_norm"}
            | {"type_vocab_size": 2, "conv_kernel_size": 3, "conv_act": "tanh", "hidden_act": "relu"},
        ],
    ),
    *headed(
        "Deberta",
        BERT | {"relative_attention": True, "max_relative_positions": 10},
        [
            {"relative_attention": False, "type_vocab_size": 3},
            {"pos_att_type": "c2p", "position_biased_input": False, "legacy": False},
            {"pos_att_type": ["p2c", "c2p"], "type_vocab_size": 2, "hidden_act": "relu"},
        ],
    ),
    *headed("NomicBert", BERT, [{}, {"head_dim": 8, "hidden_act": "gelu", "type_vocab_size": 3}], HEADS[:3]),
    *headed("Gte", BERT, [{"type_vocab_size": 0}, {"type_vocab_size": 2, "hidden_act": "relu"}], HEADS[:3]),
    *headed("JinaEmbeddingsV3", BERT, [{}, {"type_vocab_size": 2, "hidden_act": "relu", "layer_norm_eps": 1e-3}]),
    *headed(
        "EuroBert",
        EURO,
        [
            {"classifier_pooling": "bos"},
            {"tie_word_embeddings": True, "head_dim": 24},
            {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "classifier_pooling": "mean"},
        ],
        HEADS[:3],
    ),
    *headed("Ernie", BERT, [{}, {"use_task_id": True, "hidden_act": "relu"}]),
    *headed("Data2VecText", BERT, [{}, {"pad_token_id": 0, "type_vocab_size": 1, "hidden_act": "relu"}]),
    *headed(
        "DistilBert",
        {"vocab_size": 96, "dim": 64, "hidden_dim": 96, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64},
        [{}, {"activation": "relu", "n_heads": 2}],
    ),
    *headed(
        "ModernBert",
        BERT | {"pad_token_id": 0, "num_hidden_layers": 4, "local_attention": 6},
        [
            {},
            {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}
            | {"decoder_bias": False, "classifier_pooling": "mean", "hidden_activation": "silu"}
            | {"layer_types": ["sliding_attention", "full_attention"] * 2, "norm_eps": 1e-3},
        ],
    ),
]
