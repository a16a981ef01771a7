"""Encoders beyond parity: the end of the table of positions, sentence pairs, labels, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import burnish
from burnish.backends.binding import BindError
from burnish.frontends.architecture import ARCHITECTURES
from burnish.frontends.checkpoint import load_checkpoint, module_of
from burnish.frontends.config import Config, LoadError
from burnish.ir.types import Type
from burnish.ir.weights import StoredWeights
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, run
from tests.parity.types.encoders import TYPES

SIZES = {"vocab_size": 96, "max_position_embeddings": 64} | models.SIZES
CONFIGS: dict[str, dict[str, Any]] = {
    "Bert": SIZES,
    "Roberta": SIZES | {"type_vocab_size": 1, "hidden_act": "relu"},
    "DistilBert": {"vocab_size": 96, "max_position_embeddings": 64, "dim": 48, "hidden_dim": 80}
    | {"n_layers": 2, "n_heads": 3},
}
IDS, COUNTS = np.maximum(models.tokens((3, 11)), 4), np.array([11, 5, 1], np.int32)
MASK = (np.arange(11) < COUNTS[:, None]).astype("i8")


def of_oracle(oracle: Any, **more: np.ndarray) -> Any:
    """What transformers makes of IDS, the padding masked."""
    given = {k: torch.tensor(v).long() for k, v in {"input_ids": IDS, "attention_mask": MASK, **more}.items()}
    with torch.no_grad():
        return oracle(**given)


@pytest.mark.parametrize("cls", [t.cls for t in TYPES if t.cls.endswith("Model")])
def test_a_config_that_says_nothing_has_the_sizes_of_its_class(cls: str) -> None:
    with torch.device("meta"):
        oracle = getattr(transformers, cls)(getattr(transformers, cls).config_class())
    types = {n: Type("f32", tuple(p.shape)) for n, p in oracle.named_parameters()}
    module_of(Config({"architectures": [cls], }), types, StoredWeights({}))


@pytest.mark.slow
def test_on_xla_and_from_a_package(tmp_path: Path) -> None:
    oracle = models.made("DistilBertForSequenceClassification", **CONFIGS["DistilBert"])
    module = burnish.optimize(load_checkpoint(models.saved_in_full(oracle, tmp_path / "checkpoint")))
    burnish.compile(module, tmp_path / "package")
    for m, backend in ((module, "numpy"), (burnish.load(tmp_path / "package"), "xla")):
        logits = burnish.executable(m, backend).forward(IDS, COUNTS)["logits"]
        assert_near(logits, of_oracle(oracle).logits.numpy(), backend)


@pytest.mark.parametrize("name", ["Bert", "Roberta", "DistilBert"])
def test_a_token_that_has_no_row_in_the_table_of_positions_is_refused(name: str, tmp_path: Path) -> None:
    """RoBERTa's first row for a token is the second behind that of padding, number 1."""
    oracle = models.made(f"{name}Model", **CONFIGS[name] | {"max_position_embeddings": 12})
    module = load_checkpoint(models.saved_in_full(oracle, tmp_path))
    most = 10 if name == "Roberta" else 12
    assert module.facts.context == most
    ids = np.full((1, most), 5, "i4")
    with torch.no_grad():
        expected = oracle(input_ids=torch.tensor(ids).long()).last_hidden_state.numpy()
    assert_near(run(module, "forward", ids=ids)["hidden"], expected)
    with pytest.raises(BindError, match=f"assumed that S <= {most}, but they are {most + 1} and {most}"):
        run(module, "forward", ids=np.full((1, most + 1), 5, "i4"))


@pytest.mark.parametrize("name", ["Bert", "Albert"])
def test_words_of_a_model_with_both_heads_of_its_training(name: str, tmp_path: Path) -> None:
    oracle = models.made(f"{name}ForPreTraining", **SIZES, **({} if name == "Bert" else {"embedding_size": 24}))
    module = load_checkpoint(models.saved_in_full(oracle, tmp_path))
    assert module.facts.task == "fill-mask"
    with torch.no_grad():
        expected = oracle(input_ids=torch.tensor(IDS[:1]).long()).prediction_logits.numpy()
    assert_near(run(module, "forward", ids=IDS[:1])["logits"], expected)


def test_pairs_of_sentences_have_types_of_tokens(tmp_path: Path) -> None:
    oracle = models.made("BertForSequenceClassification", **SIZES)
    module = load_checkpoint(models.saved_in_full(oracle, tmp_path))
    types = (np.arange(11) >= np.array([4, 2, 1])[:, None]).astype("i4")
    logits = run(module, "forward", ids=IDS, count=COUNTS, token_types=types)["logits"]
    expected = of_oracle(oracle, token_type_ids=types).logits.numpy()
    assert_near(logits, expected)
    with pytest.raises(AssertionError, match="of the largest"):  # without them it is another text
        assert_near(run(module, "forward", ids=IDS, count=COUNTS)["logits"], expected)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        pytest.param("Roberta", "ForMaskedLM", marks=pytest.mark.slow),
        pytest.param("DistilBert", "ForSequenceClassification", marks=pytest.mark.slow),
        ("DistilBert", "Model"),
    ],
)
def test_laws(name: str, head: str) -> None:
    check_architecture(ARCHITECTURES[name], CONFIGS[name], head=head)


def test_a_head_that_a_base_has_no_step_for_is_refused(tmp_path: Path) -> None:
    folder = models.saved_in_full(models.llama(), tmp_path)
    models.change_config(folder, architectures=["LlamaForMaskedLM"])
    with pytest.raises(LoadError, match="Llama has no words, for a head of ForMaskedLM"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("BertLMHeadModel", SIZES, "Bert goes with Model: a head of ForCausalLM does not go on it"),
        ("RobertaForCausalLM", CONFIGS["Roberta"], "Roberta goes with Model: a head of ForCausalLM"),
        ("RobertaForMultipleChoice", CONFIGS["Roberta"], "does not fit RobertaForMultipleChoice: missing tensors"),
    ],
)
def test_another_head_is_refused_by_name(name: str, config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=message):
        load_checkpoint(models.saved_in_full(models.made(name, **config), tmp_path))


@pytest.mark.parametrize(
    ("name", "given", "change", "message"),
    [
        ("MPNet", {}, {"relative_attention_num_buckets": 64}, "relative_attention_num_buckets must be 32"),
        ("Albert", {"embedding_size": 24}, {"num_hidden_groups": 3}, "num_hidden_groups 3 is more than num_hid"),
        ("EuroBert", {"pad_token_id": 1}, {"classifier_pooling": "max"}, "classifier_pooling 'max' is not supported"),
    ],
)
def test_another_kind_is_refused(
    name: str, given: dict[str, Any], change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = models.saved_in_full(models.made(f"{name}Model", **SIZES, **given), tmp_path)
    models.change_config(folder, **change)
    with pytest.raises(LoadError, match=message):
        load_checkpoint(folder)


def test_labels_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """However many there are, and in which order the file has them."""
    oracle = models.made("BertForSequenceClassification", **SIZES, num_labels=50_000)
    folder = models.saved_in_full(oracle, tmp_path)
    models.change_config(folder, id2label={str(i): f"label {i}" for i in reversed(range(50_000))})
    assert load_checkpoint(folder).facts.labels[::10_000] == tuple(f"label {i}" for i in range(0, 50_000, 10_000))


@pytest.mark.parametrize("labels", [{"0": 3}, {"1": "a"}, {}, ["a"], {"0": "a", "x": "b"}])
def test_labels_that_are_none_are_refused(labels: Any, tmp_path: Path) -> None:
    folder = models.saved_in_full(models.made("BertForSequenceClassification", **SIZES), tmp_path)
    models.change_config(folder, id2label=labels)
    with pytest.raises(LoadError, match="id2label must be an object from 0, 1, … to names"):
        load_checkpoint(folder)
