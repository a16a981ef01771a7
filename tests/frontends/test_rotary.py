"""Rotary frequencies against transformers' own, within a unit in the last place."""

import numpy as np
import pytest
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

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
