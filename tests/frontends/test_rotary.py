"""Rotary frequencies against transformers' own, within a unit in the last place."""

import json

import numpy as np
import pytest
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from burnish.frontends.config import Config, LoadError
from burnish.frontends.rotary import rope_frequencies

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 8192}


@pytest.mark.parametrize("theta", [10000.0, 500000.0])
@pytest.mark.parametrize("scaling", [{"rope_type": "linear", "factor": 4.0}, LLAMA3], ids=["linear", "llama3"])
def test_scalings(scaling, theta) -> None:
    config = transformers.LlamaConfig(head_dim=128, rope_parameters=scaling | {"rope_theta": theta})
    expected = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, "cpu")[0].numpy()
    of_today, of_before = {"rope_parameters": scaling | {"rope_theta": theta}}, {"rope_scaling": scaling}
    for written in (of_today, of_before | {"rope_theta": theta}):
        ours = rope_frequencies(Config(written), 128)
        assert ours.dtype == np.float32
        np.testing.assert_array_max_ulp(ours, expected, maxulp=4)


def test_without_scaling_and_with_the_older_spelling() -> None:
    plain = rope_frequencies(Config({}), 64)
    np.testing.assert_array_max_ulp(plain, (10000.0 ** -(np.arange(0, 64, 2) / 64)).astype("f4"), maxulp=1)
    scaled = rope_frequencies(Config({"rope_scaling": {"type": "linear", "factor": 2}}), 64)
    assert np.array_equal(scaled, plain / 2)


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"rope_type": "yarn"}, "rope_type 'yarn' is not supported; supported are default, linear, llama3"),
        ({"rope_type": "linear"}, "factor is missing"),
        ({"rope_type": "linear", "factor": 0}, "factor must be a number from 1e-06"),
        (LLAMA3 | {"low_freq_factor": 0.0}, "low_freq_factor must be a number"),
        (LLAMA3 | {"high_freq_factor": 1.0}, "low_freq_factor 1 must be less than high_freq_factor 1"),
        (LLAMA3 | {"rope_theta": float("nan")}, "rope_theta must be a number"),
    ],
)
def test_what_is_refused(scaling, message) -> None:
    with pytest.raises(LoadError, match=message):
        rope_frequencies(Config({"rope_parameters": scaling}), 64)


L3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
BASE = {"rope_type": "default", "rope_theta": 5e5}


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_parameters": BASE},
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_parameters": BASE, "rope_theta": 7e4},
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0, "rope_theta": 9e4}, "rope_theta": 7e4},
        {"rope_scaling": {}, "rope_parameters": BASE | {"rope_type": "linear", "factor": 2.0}},
        {"rope_scaling": None, "rope_parameters": BASE},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0}, "rope_theta": 3e4},
        {"rope_parameters": BASE, "rope_theta": 3e4},
        {"rope_parameters": {"type": "linear", "factor": 2.0}},
        {"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2.0}},
        {"rope_parameters": L3, "max_position_embeddings": 99},
        {"rope_parameters": L3 | {"original_max_position_embeddings": 55}, "max_position_embeddings": 99},
        {"rope_scaling": L3, "rope_parameters": BASE, "max_position_embeddings": 99},
    ],
)
def test_which_field_counts_is_as_in_transformers(fields, tmp_path) -> None:
    """Both spellings in one file, the base beside the section and inside of it, what a section leaves out."""
    (tmp_path / "config.json").write_text(json.dumps(fields | {"head_dim": 64}))
    oracle = LlamaRotaryEmbedding(transformers.LlamaConfig.from_pretrained(tmp_path))
    np.testing.assert_array_max_ulp(rope_frequencies(Config(fields), 64), oracle.inv_freq.numpy(), maxulp=4)


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}, "global_rope_theta": 5e3},
        {"rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 7e3}}},
        {"global_rope_theta": 5e3, "local_rope_theta": 6e3},
    ],
)
def test_which_field_counts_where_each_type_of_layer_has_its_own(fields, tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(fields))
    found = transformers.ModernBertConfig.from_pretrained(tmp_path).rope_parameters
    bases = {"full_attention": ("global_rope_theta", 160000.0), "sliding_attention": ("local_rope_theta", 10000.0)}
    for of, theta in bases.items():
        scaled = found[of].get("factor", 1.0)
        expected = (found[of]["rope_theta"] ** -(np.arange(0, 64, 2) / 64) / scaled).astype("f4")
        np.testing.assert_array_max_ulp(rope_frequencies(Config(fields), 64, of=of, theta=theta), expected, maxulp=1)
