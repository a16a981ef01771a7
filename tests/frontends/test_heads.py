"""Heads on bases of each template against transformers, padded; and what a head says of its model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import burnish
from burnish.frontends.architecture import ARCHITECTURES
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, run

ENCODER = {"vocab_size": 96, "max_position_embeddings": 64} | models.SIZES
DECODER = ENCODER | {"pad_token_id": 0, "num_key_value_heads": 2}
MODERN = ENCODER | {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
DISTIL = {"vocab_size": 96, "dim": 64, "hidden_dim": 96, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64}
GPT2 = {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
BART = {"vocab_size": 96, "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "max_position_embeddings": 64}
BART |= {"encoder_attention_heads": 2, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40}
T5 = {"vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "num_decoder_layers": 1}

#: outputs by transformers' names of them, where they are not the same
CASES: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("BertForPreTraining", ENCODER, {"logits": "prediction_logits"}),
    ("BertForNextSentencePrediction", ENCODER, {}),
    ("BertForMultipleChoice", ENCODER, {}),
    ("DistilBertForMultipleChoice", DISTIL, {}),
    ("ModernBertForMultipleChoice", MODERN, {}),
    ("GPT2ForQuestionAnswering", GPT2, {}),
    ("MistralForQuestionAnswering", DECODER, {}),
    ("BartForSequenceClassification", BART | {"num_labels": 3}, {}),
    ("BartForQuestionAnswering", BART, {}),
    ("MBartForSequenceClassification", BART | {"num_labels": 3, "pad_token_id": 0}, {}),
    ("PLBartForSequenceClassification", BART | {"pad_token_id": 0}, {}),
    ("MBartForQuestionAnswering", BART | {"pad_token_id": 0}, {}),
    ("T5ForQuestionAnswering", T5 | {"decoder_start_token_id": 0}, {}),
    ("T5EncoderModel", T5, {"hidden": "last_hidden_state"}),
]
COUNTS = np.array([11, 5, 2], np.int32)
MASK = (np.arange(11) < COUNTS[:, None]).astype("i8")


def asked() -> np.ndarray:
    """Texts that end with token 2, which BART asks for, and have it nowhere else; padded."""
    ids = np.where(MASK, np.maximum(models.tokens((3, 11)), 3), 0).astype("i4")
    ids[np.arange(3), COUNTS - 1] = 2
    return ids


@pytest.mark.parametrize(("name", "config", "named"), CASES, ids=[name for name, *_ in CASES])
def test_numbers_are_the_oracles(name: str, config: dict[str, Any], named: dict[str, str], tmp_path: Path) -> None:
    oracle = models.made(name, **config)
    module = load_checkpoint(models.saved_in_full(oracle, tmp_path))
    ids = asked()
    given = {"input_ids": torch.tensor(ids).long(), "attention_mask": torch.tensor(MASK)}
    with torch.no_grad():
        theirs = oracle(**{k: v[:, None] if "MultipleChoice" in name else v for k, v in given.items()})
    for m in (module, burnish.optimize(module)):
        model = burnish.executable(m, pipeline="")
        for output, found in model.forward(ids, COUNTS).items():
            expected = theirs[named.get(output, output)].numpy()
            for b, n in enumerate(COUNTS):
                real = slice(n) if expected.shape[1] == ids.shape[1] else slice(None)
                error = np.abs(found[b, real] - expected[b, real]).max() / np.abs(expected).max()
                assert error < models.WITHIN, f"{output} of sequence {b}: {error:.1e} of the largest"
    assert not model.is_generative


def test_a_classifier_of_two_graphs_begins_as_the_decoder_does(tmp_path: Path) -> None:
    """BART reads the text again behind its first token: with another one, it says something else."""
    oracle = models.made("BartForSequenceClassification", **BART, decoder_start_token_id=7)
    folder, ids = models.saved(oracle, tmp_path), asked()[:1]
    expected = models.logits_of(oracle, input_ids=ids)
    assert_near(run(load_checkpoint(folder), "forward", ids=ids)["logits"], expected)
    models.change_config(folder, decoder_start_token_id=2)
    with pytest.raises(AssertionError, match="of the largest"):
        assert_near(run(load_checkpoint(folder), "forward", ids=ids)["logits"], expected)


@pytest.mark.parametrize(
    ("name", "config", "head"),
    [
        pytest.param("Bart", BART, "ForSequenceClassification", marks=pytest.mark.slow),
        ("T5", T5, "EncoderModel"),
    ],
)
def test_laws(name: str, config: dict[str, Any], head: str) -> None:
    check_architecture(ARCHITECTURES[name], config, head=head)


@pytest.mark.parametrize(
    ("head", "config", "task", "labels", "scores"),
    [
        ("ForPreTraining", {}, "fill-mask", (), ""),
        ("ForNextSentencePrediction", {}, "text-classification", ("follows", "random"), ""),
        ("ForMultipleChoice", {}, "text-classification", ("fits",), "raw"),
        ("ForSequenceClassification", {"problem_type": "regression"}, "text-classification", None, "raw"),
        ("ForSequenceClassification", {"num_labels": 1}, "text-classification", ("LABEL_0",), ""),
    ],
)
def test_what_a_head_says(head: str, config: Any, task: str, labels: Any, scores: str, tmp_path: Path) -> None:
    facts = load_checkpoint(models.saved(models.made(f"Bert{head}", **ENCODER, **config), tmp_path)).facts
    assert (facts.task, facts.scores) == (task, scores)
    assert labels is None or facts.labels == labels


def test_a_folder_of_sentences_is_the_encoder_of_t5(tmp_path: Path) -> None:
    from tests.frontends.test_sentence import pooling, written

    oracle = models.made("T5EncoderModel", **T5)
    folder = written(models.saved(oracle, tmp_path), [pooling("mean")])
    ids = asked()[:1]
    with torch.no_grad():
        expected = oracle(torch.tensor(ids).long()).last_hidden_state.numpy().mean(1)
    assert_near(run(load_checkpoint(folder), "encoder", ids=ids)["embedding"], expected)
    models.change_config(folder, architectures=["T5ForConditionalGeneration"])
    with pytest.raises(LoadError, match="T5 has an encoder and a decoder: a head of Model goes on one graph"):
        load_checkpoint(folder)


def test_an_encoder_alone_is_one_of_two_graphs(tmp_path: Path) -> None:
    folder = models.saved(models.bert(), tmp_path)
    models.change_config(folder, architectures=["BertEncoderModel"])
    with pytest.raises(LoadError, match="Bert has no encoder that stands alone"):
        load_checkpoint(folder)
