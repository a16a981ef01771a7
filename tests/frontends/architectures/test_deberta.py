"""DeBERTa 2 and 3 beyond parity: the rows of far distances, what the files of version 3 hold, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from burnish.frontends.architectures.deberta import DebertaV2, _rows
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from burnish.testing import check_architecture
from tests import models
from tests.frontends.architectures.feeding import assert_near, run

#: as microsoft/deberta-v3-base says it, but for sizes
V3: dict[str, Any] = {"vocab_size": 96, "max_position_embeddings": 20, "type_vocab_size": 0} | models.SIZES
V3 |= {"relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True}
V3 |= {"pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7, "max_relative_positions": -1, "position_biased_input": False}


@pytest.mark.parametrize(("buckets", "most"), [(256, 512), (32, 128), (8, 20), (2, 16), (4, 12), (24, 24)])
def test_rows_of_distances(buckets: int, most: int) -> None:
    """Those beyond the table, too, which are counted as the farthest in it."""
    far = torch.arange(-5 * most, 5 * most + 1)
    bucket = make_log_bucket_position(far, buckets, most).long()
    expected = torch.clamp(bucket + buckets, 0, 2 * buckets - 1).numpy()
    assert np.array_equal(_rows(buckets, most)[np.clip(far.numpy(), -most, most) + most], expected)


def test_a_text_longer_than_every_distance_that_is_told_apart(tmp_path) -> None:
    oracle = models.made("DebertaV2Model", **V3)
    module = load_checkpoint(models.saved_in_full(oracle, tmp_path))
    ids = models.tokens((1, 70))
    with torch.no_grad():
        expected = oracle(input_ids=torch.tensor(ids, dtype=torch.long)).last_hidden_state.numpy()
    assert_near(run(module, "forward", ids=ids)["hidden"], expected)


def test_words_by_the_head_of_version_3(tmp_path) -> None:
    """Beside the one that it was trained against, of which nobody reads anything."""
    oracle = models.made("DebertaV2ForMaskedLM", **V3, legacy=False)
    folder = models.saved_in_full(oracle, tmp_path)
    file = folder / "model.safetensors"
    save_file(load_file(file) | {"mask_predictions.dense.weight": torch.ones(4, 4)}, file)
    ids = models.tokens((2, 9))
    assert_near(run(load_checkpoint(folder), "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


def test_a_config_that_names_its_family_alone(tmp_path) -> None:
    """As those of version 3 do, beside the tensors of a head."""
    oracle = models.made("DebertaV2ForMaskedLM", **V3, legacy=False)
    folder = models.saved_in_full(oracle, tmp_path, architectures=None, legacy=None, tie_word_embeddings=None)
    module, ids = load_checkpoint(folder), models.tokens((2, 9))
    with torch.no_grad():
        expected = oracle.deberta(input_ids=torch.tensor(ids, dtype=torch.long)).last_hidden_state.numpy()
    assert module.facts.architecture == "DebertaV2Model"
    assert_near(run(module, "forward", ids=ids)["hidden"], expected)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"position_buckets": 7}, "position_buckets 7 .* is not supported"),
        ({"position_buckets": 48}, "position_buckets 48 for max_relative_positions 20 is not supported"),
        ({"pos_att_type": "p2p|c2p"}, "pos_att_type 'p2p|c2p' is not supported"),
        ({"pos_att_type": 3}, "pos_att_type 3 is not supported"),
        ({"conv_kernel_size": 2}, "an even conv_kernel_size"),
        ({"conv_kernel_size": 3, "conv_groups": 4}, "several conv_groups"),
    ],
)
def test_another_kind_is_refused(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    folder = models.saved_in_full(models.made("DebertaV2Model", **V3), tmp_path)
    models.change_config(folder, **change)
    with pytest.raises(LoadError, match=named):
        load_checkpoint(folder)


@pytest.mark.slow
def test_laws() -> None:
    check_architecture(DebertaV2, V3 | {"conv_kernel_size": 3}, head="ForSequenceClassification")
